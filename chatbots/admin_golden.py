"""Golden questions in the admin: their page, their run, and the run before a draft is published."""

from copy import copy
from typing import Any

from django.contrib import messages
from django.forms import BaseInlineFormSet, inlineformset_factory
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from chatbots.admin_page import PageAdmin, tester
from chatbots.golden import MAX_QUESTIONS, run_golden_questions
from chatbots.models import Chatbot, GoldenQuestion, GoldenRun

CHECKED = "_golden_checked"  # in a form: whoever sends it has seen what came of the golden questions


class GoldenFormSet(BaseInlineFormSet):
    deletion_widget = UnfoldBooleanWidget


GoldenQuestions = inlineformset_factory(
    Chatbot,
    GoldenQuestion,
    formset=GoldenFormSet,
    fields=["question", "expected_facts", "expected_source", "is_enabled"],
    widgets={
        "question": UnfoldAdminTextareaWidget({"rows": 2}),
        "expected_facts": UnfoldAdminTextareaWidget({"rows": 2}),
        "expected_source": UnfoldAdminTextInputWidget,
        "is_enabled": UnfoldBooleanWidget,
    },
    extra=1,
    max_num=MAX_QUESTIONS,
    validate_max=True,
    absolute_max=MAX_QUESTIONS + 1,
)


class GoldenQuestionsAdmin(PageAdmin):
    @action(description="Golden questions", icon="fact_check", url_path="golden-questions", permissions=["view"])
    def golden_questions(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET and POST of the questions; with "run" in the form they are asked, once they are saved."""
        may_edit = self.has_change_permission(request)
        bot = (
            self.bot_to_change(request, object_id) if request.method == "POST" else self.bot_to_view(request, object_id)
        )
        formset = GoldenQuestions(request.POST if request.method == "POST" else None, instance=bot)
        if formset.is_valid():
            if formset.has_changed():
                formset.save()
                self.log_change(request, bot, "Changed golden questions.")
                messages.success(request, "The golden questions are saved.")
            if "run" in request.POST and bot.status == Chatbot.Status.TRASH:
                messages.error(request, "This chatbot is in the trash, where it answers nobody.")
            elif "run" in request.POST and not run_golden_questions(bot, tester(request)):
                messages.warning(request, "There is no question to ask.")
            return HttpResponseRedirect(request.path)
        context = {"object": bot, "formset": formset, "may_edit": may_edit, "run": last_run(bot)}
        return self.page(request, "golden_questions", f"Golden questions of {bot}", context)

    # Publishing

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A draft that is being published answers its golden questions first, with the settings in the form."""
        if request.method == "POST" and object_id and CHECKED not in request.POST:
            bot = self.get_object(request, object_id)
            if bot and self.has_change_permission(request, bot) and bot.status != Chatbot.Status.PUBLISHED:
                form = self.get_form(request, bot, change=True)(request.POST, instance=copy(bot))
                if form.is_valid() and form.instance.status == Chatbot.Status.PUBLISHED:
                    run = run_golden_questions(form.instance, tester(request))
                    if run:
                        return self.golden_gate(request, [run], back=request.path, published=form.instance.name)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def golden_gate(self, request: HttpRequest, runs: list[GoldenRun], *, back: str, published: str) -> HttpResponse:
        """What came of the questions; the form that was sent can be sent again from there."""
        sent = [
            (name, value) for name, values in request.POST.lists() if name != "csrfmiddlewaretoken" for value in values
        ]
        context = {
            "runs": runs,
            "sent": sent,
            "checked": CHECKED,
            "back": back,
            "has_settings": "status" in request.POST,
            "all_passed": all(result.has_passed for run in runs for result in run.results.all()),
        }
        return self.page(request, "golden_gate", f"Publish {published}?", context)

    def run_before_publishing(self, request: HttpRequest, bots: list[Chatbot]) -> list[GoldenRun]:
        runs = [run_golden_questions(bot, tester(request)) for bot in bots]
        return [run for run in runs if run]


def last_run(bot: Chatbot) -> GoldenRun | None:
    return GoldenRun.objects.select_related("user").filter(chatbot=bot).first()
