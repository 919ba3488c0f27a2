"""Golden questions in the admin: the questions, runs and evaluations, and the decision to publish after one."""

from collections.abc import Iterable
from copy import copy
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Count, Prefetch, Q
from django.forms import BaseInlineFormSet, inlineformset_factory
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from chatbots.admin.history import different, label_of
from chatbots.admin.page import ChatbotPage
from chatbots.lifecycle.serializers import SETTINGS
from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun
from chatbots.quality.evaluation import Evaluation, totals_of
from chatbots.quality.golden import (
    MAX_QUESTIONS,
    bot_of,
    changes_of,
    enabled_questions,
    queue,
    queue_results,
    results_to_get,
)
from chatbots.quality.judge import NoSuchJudge, known_judges, read_judge
from chatbots.quality.sample import MAX_SAMPLE
from providers.run_async import run_async

MAX_RUNS = 500  # on one page
MAX_DAYS = 365


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


class EvaluationForm(forms.Form):
    """The settings of an evaluation. Only users who may read the log can have visitors' questions asked."""

    sample = forms.IntegerField(
        label=gettext_lazy("Visitors' questions"),
        min_value=0,
        max_value=MAX_SAMPLE,
        initial=20,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=gettext_lazy("How many from the log to ask again. The same ones are drawn in each run."),
    )
    days = forms.IntegerField(
        label=gettext_lazy("From the last days"),
        min_value=1,
        max_value=MAX_DAYS,
        initial=30,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    judge = forms.CharField(
        label=gettext_lazy("Judge model"),
        max_length=220,
        required=False,
        widget=UnfoldAdminTextInputWidget({"list": "known-judges", "placeholder": "provider/model"}),
        help_text=gettext_lazy(
            "Judges what the rules leave undecided, with at most one call for each reply. It is sent the question, the "
            "reply and the cited passages. Leave empty to judge by rules only."
        ),
    )

    def __init__(self, data: Any = None, *, may_sample: bool, **options: Any) -> None:
        super().__init__(data, **options)
        if not may_sample:
            del self.fields["sample"], self.fields["days"]

    def clean_judge(self) -> str:
        name = self.cleaned_data["judge"]
        try:
            return str(run_async(lambda: read_judge(name))) if name else ""
        except NoSuchJudge as error:
            raise ValidationError(str(error)) from None

    def evaluation(self) -> Evaluation:
        return Evaluation(**self.cleaned_data)


class GoldenQuestionsPage(ChatbotPage):
    """The golden questions of a chatbot and their last run.

    After saving, "run" in the form starts a run, and "evaluate" one whose replies are judged. "cancel" cancels a run.
    """

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_view(object_id)
        return self.questions_page(bot, GoldenQuestions(instance=bot), evaluation_form(request, bot))

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_change(object_id)
        if "cancel" in request.POST:
            self.cancel(bot)
            return HttpResponseRedirect(request.path)
        formset = GoldenQuestions(request.POST, instance=bot)
        form = evaluation_form(request, bot, request.POST if "evaluate" in request.POST else None)
        if not (formset.is_valid() and (form.is_valid() or not form.is_bound)):
            return self.questions_page(bot, formset, form)
        if formset.has_changed():
            formset.save()
            self.model_admin.log_change(request, bot, "Changed golden questions.")
            messages.success(request, _("The golden questions are saved."))
        if "run" in request.POST or form.is_bound:
            self.run(bot, form.evaluation() if form.is_bound else None)
        return HttpResponseRedirect(request.path)

    def run(self, bot: Chatbot, evaluation: Evaluation | None) -> None:
        if bot.status == Chatbot.Status.TRASH:
            messages.error(self.request, _("This chatbot is in the trash, so it answers no one."))
        elif not (results := results_to_get(bot, evaluation)):
            messages.warning(self.request, _("There are no questions to ask."))
        else:
            queue_results(bot, cast(User, self.request.user), results, evaluation=evaluation)

    def cancel(self, bot: Chatbot) -> None:
        for run in requested_runs(self.request, self.request.POST.getlist("cancel")):
            if run.chatbot_id == bot.pk and run.cancel():
                messages.success(self.request, _("The run is cancelled."))

    def questions_page(self, bot: Chatbot, formset: Any, form: EvaluationForm) -> HttpResponse:
        context = {
            "object": bot,
            "formset": formset,
            "evaluation_form": form,
            "known_judges": known_judges(),
            "may_edit": self.model_admin.has_change_permission(self.request),
            "runs": runs_to_show(self.request, chatbot=bot),
        }
        return self.page("golden_questions", _("Golden questions"), context)


class GoldenRunsPage(ChatbotPage):
    """The part of a page that shows runs. golden_questions.js requests it again until the runs end."""

    route = "golden-runs/"
    name = "golden_runs"

    def get(self, request: HttpRequest) -> HttpResponse:
        if not self.model_admin.has_view_permission(request):
            raise PermissionDenied
        context = {
            "runs": requested_runs(request, request.GET.getlist("run")),
            "may_edit": self.model_admin.has_change_permission(request),
        }
        return render(request, "admin/chatbots/chatbot/golden_runs.html", context)


class PublishPage(ChatbotPage):
    """The page that shows the runs before publishing and asks whether to publish. It need not wait for the runs."""

    route = "publish/"
    name = "decide_on_publishing"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not self.model_admin.has_change_permission(request):
            raise PermissionDenied
        requested = request.GET.getlist("run")
        self.runs = [run for run in requested_runs(request, requested) if run.is_before_publishing]
        if not self.runs or len(self.runs) < len(set(requested)):
            messages.warning(request, _("This was already decided, or newer runs have replaced these."))
            return HttpResponseRedirect(reverse("admin:chatbots_chatbot_changelist"))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.decision_page(evaluation_form(request, self.runs[0].chatbot))

    def decision_page(self, form: EvaluationForm) -> HttpResponse:
        names = ", ".join(run.settings["name"] for run in self.runs)
        context = {
            "runs": self.runs,
            "may_edit": True,
            "evaluation_form": form,
            "known_judges": known_judges(),
            "is_over": all(run.state != GoldenRun.State.WAITING for run in self.runs),
            "all_passed": all(result.has_passed for run in self.runs for result in run.results.all()),
            "has_changes": any(set(changes_of(run)[0]) - {"status"} for run in self.runs),
            "back": self.chatbots_url(),
        }
        return self.page("decide_on_publishing", _("Publish %(chatbots)s?") % {"chatbots": names}, context)

    def post(self, request: HttpRequest) -> HttpResponse:
        if request.POST.get("decision") == "evaluate":
            form = evaluation_form(request, self.runs[0].chatbot, request.POST)
            return self.evaluate(form.evaluation()) if form.is_valid() else self.decision_page(form)
        publish = request.POST.get("decision") == "publish"
        for run in self.runs:
            self.decide(run, publish=publish)
        text = _("Published: %(chatbots)s.") if publish else _("Saved as draft: %(chatbots)s.")
        messages.success(request, text % {"chatbots": ", ".join(run.chatbot.name for run in self.runs)})
        return HttpResponseRedirect(self.chatbots_url())

    def evaluate(self, evaluation: Evaluation) -> HttpResponse:
        """Replace the runs by evaluations of the same settings, on which the user still has to decide."""
        user = cast(User, self.request.user)
        results = [results_to_get(run.chatbot, evaluation) for run in self.runs]
        queued = []
        with transaction.atomic():
            for run, of_the_run in zip(self.runs, results, strict=True):
                new = queue_results(bot_of(run), user, of_the_run, before_publishing=True, evaluation=evaluation)
                new.saved_settings = run.saved_settings  # of the time when the form with the settings was opened
                new.save(update_fields=["saved_settings"])
                run.delete()  # so that one run waits for the decision
                queued.append(new)
        return to_decision(queued)

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
    return to_decision(runs)


def to_decision(runs: Iterable[GoldenRun]) -> HttpResponse:
    query = {"run": [run.pk for run in runs]}
    return HttpResponseRedirect(reverse("admin:chatbots_chatbot_decide_on_publishing", query=query))


def evaluation_form(request: HttpRequest, bot: Chatbot, data: Any = None) -> EvaluationForm:
    """Return the form, at first with the values of the last evaluation."""
    last = GoldenRun.objects.filter(chatbot=bot).exclude(evaluation__isnull=True).order_by("pk").last()
    return EvaluationForm(data, may_sample=may_read_log(request), initial=last.evaluation if last else {})


def may_read_log(request: HttpRequest) -> bool:
    return request.user.has_perm("logs.view_conversation")


def runs_to_show(request: HttpRequest, **conditions: Any) -> list[Any]:
    """Return the runs with their `totals`, a `heading`, and how many `questions` they have and were `asked` so far.

    The results of visitors' questions are only for users who may read the log.
    """
    asked = Count("results", filter=Q(results__ended_at__isnull=False))
    results = GoldenResult.objects.all() if may_read_log(request) else GoldenResult.objects.filter(message_id="")
    runs: list[Any] = list(
        GoldenRun.objects.filter(**conditions)
        .select_related("user", "chatbot")
        .prefetch_related(Prefetch("results", results))
        .order_by("pk")
        .annotate(asked=asked, questions=Count("results"))
    )
    for run in runs:
        run.totals = totals_of(run.results.all())
        kind = _("Evaluation") if run.evaluation else _("Golden questions")
        run.heading = kind if len({other.chatbot_id for other in runs}) == 1 else str(run.chatbot)
    return runs


def requested_runs(request: HttpRequest, requested: Iterable[str]) -> list[Any]:
    ids = [pk for pk in list(requested)[:MAX_RUNS] if pk.isdecimal() and len(pk) < 19]
    return runs_to_show(request, pk__in=ids)
