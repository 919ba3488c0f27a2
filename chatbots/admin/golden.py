"""Golden questions in the admin: their page, how far a run has come, and the decision to publish after one."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.forms import BaseInlineFormSet, inlineformset_factory
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, reverse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from chatbots.admin.history import different, label_of
from chatbots.admin.page import PageAdmin
from chatbots.lifecycle.serializers import SETTINGS
from chatbots.models import Chatbot, GoldenQuestion, GoldenRun
from chatbots.quality.golden import MAX_QUESTIONS, bot_of, enabled_questions, queue

MAX_RUNS = 500  # on one page


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
    def get_urls(self) -> list[URLPattern]:
        ours = self.page_urls(
            ("golden-runs/", self.golden_runs, "golden_runs"),
            ("publish/", self.decide_on_publishing, "decide_on_publishing"),
        )
        return ours + super().get_urls()

    @action(description="Golden questions", icon="fact_check", url_path="golden-questions", permissions=["view"])
    def golden_questions(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET and POST of the questions; with "run" in the form they are to be asked, once they are saved."""
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
            elif "run" in request.POST and not enabled_questions(bot).exists():
                messages.warning(request, "There is no question to ask.")
            elif "run" in request.POST:
                queue(bot, cast(User, request.user))
            return HttpResponseRedirect(request.path)
        context = {"object": bot, "formset": formset, "may_edit": may_edit, "runs": runs_to_show(chatbot=bot)}
        return self.page(request, "golden_questions", "Golden questions", context)

    def golden_runs(self, request: HttpRequest) -> HttpResponse:
        """What a page that shows runs asks for while they go on: that part of it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return render(request, "admin/chatbots/chatbot/golden_runs.html", {"runs": runs_named(request)})

    # Publishing

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A draft that is being published answers its golden questions first, with the settings in the form."""
        if request.method == "POST" and object_id:
            bot = self.get_object(request, object_id)
            if bot and self.has_change_permission(request, bot) and bot.status != Chatbot.Status.PUBLISHED:
                form = self.get_form(request, bot, change=True)(request.POST, instance=copy(bot))
                if form.is_valid() and form.instance.status == Chatbot.Status.PUBLISHED:
                    decision = self.ask_before_publishing(request, [form.instance])
                    if decision:
                        return decision
        return super().changeform_view(request, object_id, form_url, extra_context)

    def ask_before_publishing(self, request: HttpRequest, bots: Iterable[Chatbot]) -> HttpResponse | None:
        """To the page where that is decided; None where none of them has a golden question."""
        bots = [bot for bot in bots if bot.pk]
        if not any(enabled_questions(bot).exists() for bot in bots):
            return None
        runs = []
        for bot in bots:
            bot.status = Chatbot.Status.PUBLISHED
            runs.append(queue(bot, cast(User, request.user), before_publishing=True))
        query = {"run": [run.pk for run in runs]}
        return HttpResponseRedirect(reverse("admin:chatbots_chatbot_decide_on_publishing", query=query))

    def decide_on_publishing(self, request: HttpRequest) -> HttpResponse:
        """The runs, with the decision on all of them; it can also be taken while they go on."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        runs = [run for run in runs_named(request) if run.is_before_publishing]
        if not runs or len(runs) < len(set(request.GET.getlist("run"))):
            messages.warning(request, "That is decided already, or other runs have taken the place of these.")
            return HttpResponseRedirect(reverse("admin:chatbots_chatbot_changelist"))
        changes = {run.pk: changed_by(run) for run in runs}
        if request.method == "POST":
            publish = request.POST.get("decision") == "publish"
            for run in runs:
                self.decide(request, run, changes[run.pk], publish=publish)
            what = "published" if publish else "saved as drafts"
            messages.success(request, f"Chatbots {what}: {', '.join(run.chatbot.name for run in runs)}.")
            return HttpResponseRedirect(self.page_of_chatbots(runs))
        names = ", ".join(run.settings["name"] for run in runs)
        context = {
            "runs": runs,
            "is_over": all(run.state != GoldenRun.State.WAITING for run in runs),
            "all_passed": all(result.has_passed for run in runs for result in run.results.all()),
            "has_changes": any(set(names) - {"status"} for names in changes.values()),
            "back": self.page_of_chatbots(runs),
        }
        return self.page(request, "decide_on_publishing", f"Publish {names}?", context)

    @transaction.atomic
    def decide(self, request: HttpRequest, run: GoldenRun, changed: Sequence[str], *, publish: bool) -> None:
        """Save the settings of the run with its chatbot, once."""
        undecided = GoldenRun.objects.filter(pk=run.pk, is_before_publishing=True)
        if not undecided.update(is_before_publishing=False):
            return
        status = run.chatbot.status
        bot = bot_of(run)
        if not publish:
            bot.status = Chatbot.Status.DRAFT
            changed = [name for name in changed if name != "status" or status != bot.status]
        bot.save()
        self.log_change(request, bot, [{"changed": {"fields": [label_of(name) for name in changed]}}])

    def page_of_chatbots(self, runs: Sequence[GoldenRun]) -> str:
        if len(runs) > 1:
            return reverse("admin:chatbots_chatbot_changelist")
        return reverse("admin:chatbots_chatbot_change", args=[runs[0].chatbot_id])


def changed_by(run: GoldenRun) -> list[str]:
    """The settings that differ from those that are saved."""
    return different(bot_of(run), run.chatbot, SETTINGS)


def runs_to_show(**of: Any) -> QuerySet[GoldenRun]:
    """With how many questions each has, and how many of them have been asked."""
    asked = Count("results", filter=Q(results__ended_at__isnull=False))
    runs = GoldenRun.objects.select_related("user", "chatbot").prefetch_related("results").order_by("pk")
    return runs.filter(**of).annotate(asked=asked, questions=Count("results"))


def runs_named(request: HttpRequest) -> list[GoldenRun]:
    ids = [pk for pk in request.GET.getlist("run")[:MAX_RUNS] if pk.isdecimal() and len(pk) < 19]
    return list(runs_to_show(pk__in=ids))
