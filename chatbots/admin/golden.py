"""Golden questions in the admin: the questions, the progress of a run, and the decision to publish after it."""

from collections.abc import Iterable
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
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from chatbots.admin.history import different, label_of
from chatbots.admin.page import ChatbotPage
from chatbots.lifecycle.serializers import SETTINGS
from chatbots.models import Chatbot, GoldenQuestion, GoldenRun
from chatbots.quality.golden import MAX_QUESTIONS, changes_of, enabled_questions, queue

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


class GoldenQuestionsPage(ChatbotPage):
    """The golden questions of a chatbot and their last run. "run" in the form starts a run after saving."""

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_view(object_id)
        return self.questions_page(bot, GoldenQuestions(instance=bot))

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_change(object_id)
        formset = GoldenQuestions(request.POST, instance=bot)
        if not formset.is_valid():
            return self.questions_page(bot, formset)
        if formset.has_changed():
            formset.save()
            self.model_admin.log_change(request, bot, "Changed golden questions.")
            messages.success(request, _("The golden questions are saved."))
        if "run" in request.POST:
            self.run(bot)
        return HttpResponseRedirect(request.path)

    def run(self, bot: Chatbot) -> None:
        if bot.status == Chatbot.Status.TRASH:
            messages.error(self.request, _("This chatbot is in the trash, so it answers no one."))
        elif not enabled_questions(bot).exists():
            messages.warning(self.request, _("There are no questions to ask."))
        else:
            queue(bot, cast(User, self.request.user))

    def questions_page(self, bot: Chatbot, formset: Any) -> HttpResponse:
        may_edit = self.model_admin.has_change_permission(self.request)
        context = {"object": bot, "formset": formset, "may_edit": may_edit, "runs": runs_to_show(chatbot=bot)}
        return self.page("golden_questions", _("Golden questions"), context)


class GoldenRunsPage(ChatbotPage):
    """The part of a page that shows runs. golden_questions.js requests it again until the runs end."""

    route = "golden-runs/"
    name = "golden_runs"

    def get(self, request: HttpRequest) -> HttpResponse:
        if not self.model_admin.has_view_permission(request):
            raise PermissionDenied
        return render(request, "admin/chatbots/chatbot/golden_runs.html", {"runs": requested_runs(request)})


class PublishPage(ChatbotPage):
    """The page that shows the runs before publishing and asks whether to publish. It need not wait for the runs."""

    route = "publish/"
    name = "decide_on_publishing"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not self.model_admin.has_change_permission(request):
            raise PermissionDenied
        self.runs = [run for run in requested_runs(request) if run.is_before_publishing]
        if not self.runs or len(self.runs) < len(set(request.GET.getlist("run"))):
            messages.warning(request, _("This was already decided, or newer runs have replaced these."))
            return HttpResponseRedirect(reverse("admin:chatbots_chatbot_changelist"))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        names = ", ".join(run.settings["name"] for run in self.runs)
        context = {
            "runs": self.runs,
            "is_over": all(run.state != GoldenRun.State.WAITING for run in self.runs),
            "all_passed": all(result.has_passed for run in self.runs for result in run.results.all()),
            "has_changes": any(set(changes_of(run)[0]) - {"status"} for run in self.runs),
            "back": self.chatbots_url(),
        }
        return self.page("decide_on_publishing", _("Publish %(chatbots)s?") % {"chatbots": names}, context)

    def post(self, request: HttpRequest) -> HttpResponse:
        publish = request.POST.get("decision") == "publish"
        for run in self.runs:
            self.decide(run, publish=publish)
        text = _("Published: %(chatbots)s.") if publish else _("Saved as draft: %(chatbots)s.")
        messages.success(request, text % {"chatbots": ", ".join(run.chatbot.name for run in self.runs)})
        return HttpResponseRedirect(self.chatbots_url())

    @transaction.atomic
    def decide(self, run: GoldenRun, *, publish: bool) -> None:
        """Save what the run changes of its chatbot's settings, unless another request has decided."""
        undecided = GoldenRun.objects.filter(pk=run.pk, is_before_publishing=True)
        if not undecided.update(is_before_publishing=False):
            return
        run.chatbot = bot = Chatbot.objects.select_for_update().get(pk=run.chatbot_id)
        before = copy(bot)
        changed, kept = changes_of(run)
        for name in changed:
            setattr(bot, name, run.settings[name])
        if "status" in changed and not publish:
            bot.status = Chatbot.Status.DRAFT
        bot.save()
        if kept:
            text = _("%(chatbot)s keeps what somebody else has saved meanwhile: %(settings)s.")
            settings = ", ".join(map(label_of, kept))
            messages.warning(self.request, text % {"chatbot": bot.name, "settings": settings})
        with translation.override(None):  # the log is in English
            fields = [label_of(name) for name in different(bot, before, SETTINGS)]
        self.model_admin.log_change(self.request, bot, [{"changed": {"fields": fields}}])

    def chatbots_url(self) -> str:
        if len(self.runs) > 1:
            return reverse("admin:chatbots_chatbot_changelist")
        return reverse("admin:chatbots_chatbot_change", args=[self.runs[0].chatbot_id])


def ask_before_publishing(request: HttpRequest, bots: Iterable[Chatbot]) -> HttpResponse | None:
    """Queue the golden questions and redirect to the decision; return None if no chatbot has a golden question."""
    bots = [bot for bot in bots if bot.pk]
    if not any(enabled_questions(bot).exists() for bot in bots):
        return None
    runs = []
    for bot in bots:
        bot.status = Chatbot.Status.PUBLISHED
        runs.append(queue(bot, cast(User, request.user), before_publishing=True))
    query = {"run": [run.pk for run in runs]}
    return HttpResponseRedirect(reverse("admin:chatbots_chatbot_decide_on_publishing", query=query))


def runs_to_show(**conditions: Any) -> QuerySet[GoldenRun]:
    """Return the runs with their numbers of `questions` and of questions `asked` so far."""
    asked = Count("results", filter=Q(results__ended_at__isnull=False))
    runs = GoldenRun.objects.select_related("user", "chatbot").prefetch_related("results").order_by("pk")
    return runs.filter(**conditions).annotate(asked=asked, questions=Count("results"))


def requested_runs(request: HttpRequest) -> list[GoldenRun]:
    ids = [pk for pk in request.GET.getlist("run")[:MAX_RUNS] if pk.isdecimal() and len(pk) < 19]
    return list(runs_to_show(pk__in=ids))
