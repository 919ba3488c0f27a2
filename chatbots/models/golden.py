"""Golden questions: questions with known answers; and runs, which ask them and visitors' questions."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatbots.models.chatbot import Chatbot
from chatbots.models.verdict import Change, Criterion, Outcome, Verdict, as_verdicts, overall
from logs.models import Conversation
from puffer.runtime import Job

CANCELLED = "Cancelled."


class GoldenQuestion(models.Model):
    """A question with a known answer, asked to find out whether a chatbot is ready to be published."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="golden_questions")
    question = models.TextField(_("question"), max_length=10_000)
    expected_facts = models.TextField(
        _("expected fact"), max_length=5000, blank=True,
        help_text=_("Text the answer must contain (case-insensitive). Any one line is enough."),
    )  # fmt: skip
    expected_source = models.CharField(
        _("expected source"), max_length=2000, blank=True,
        help_text=_("Title, address or id of a document that the model must see."),
    )  # fmt: skip
    is_enabled = models.BooleanField(_("ask it"), default=True)

    class Meta:
        verbose_name = _("golden question")
        verbose_name_plural = _("golden questions")
        ordering = ["id"]

    def __str__(self) -> str:
        return self.question[:60]

    def clean(self) -> None:
        if not (self.expected_facts.strip() or self.expected_source.strip()):
            raise ValidationError(_("Enter an expected fact, an expected source, or both."))


class GoldenRun(Job):
    """A job that asks a chatbot its golden questions. An evaluation also judges the replies.

    Of each chatbot, the last run, the last evaluation and a run that waits for a decision on publishing are kept.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="golden_runs")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    settings = models.JSONField(help_text="The chatbot's settings under test, saved on the chatbot or not.")
    saved_settings = models.JSONField(help_text="The settings that were saved on the chatbot when the run was queued.")
    is_before_publishing = models.BooleanField(
        default=False, help_text="Whether a user still has to decide if these settings are published."
    )
    evaluation = models.JSONField(
        null=True, help_text="The fields of quality.evaluation.Evaluation; null: replies are not judged."
    )

    def __str__(self) -> str:
        return f"Golden questions of {self.chatbot_id}"

    @property
    def judge(self) -> str:
        """Return the judge model as provider/model; "" for rules only."""
        return (self.evaluation or {}).get("judge", "")

    def cancel(self) -> bool:
        """Cancel the run, if it has not ended: a worker that runs it stops within a second. Return whether it had."""
        waiting = GoldenRun.objects.filter(pk=self.pk, state=Job.State.WAITING)
        return bool(
            waiting.update(
                state=Job.State.DEAD, last_error=CANCELLED, ended_at=timezone.now(), lease="", leased_until=None
            )
        )


class GoldenResult(models.Model):
    """A copy of a golden question or a visitor's question, and its result once `ended_at` is set.

    A visitor's question is deleted with its conversation: by the retention, by an erasure, in the admin.
    """

    run = models.ForeignKey(GoldenRun, on_delete=models.CASCADE, related_name="results")
    conversation = models.ForeignKey(
        Conversation, null=True, on_delete=models.CASCADE, related_name="+", help_text="Of a visitor's question."
    )
    message_id = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="Message.message_id of a visitor's question."
    )
    question = models.TextField()
    expected_facts = models.TextField(blank=True)
    expected_source = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True)
    missing = models.TextField(blank=True, help_text="The expectations that were not met, one sentence per line.")
    verdicts = models.JSONField(null=True, help_text="Criterion -> Verdict.as_json(); null: the reply was not judged.")
    before = models.CharField(
        max_length=20, blank=True, default="", db_default="", help_text="The outcome in the run before, if known."
    )
    answer = models.TextField(blank=True)
    error = models.TextField(blank=True)
    sources = models.JSONField(default=list, help_text="Title, address and score of each passage that the model saw.")
    model = models.CharField(max_length=200, blank=True)
    usage = models.JSONField(null=True)
    cost = models.DecimalField(max_digits=14, decimal_places=8, null=True, help_text="US dollars; null: unknown.")
    judge_cost = models.DecimalField(
        max_digits=14, decimal_places=8, null=True, help_text="US dollars; null: unknown, or the judge was not asked."
    )
    milliseconds = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.question[:60]

    @property
    def identity(self) -> str:
        """Return what the same question has in every run."""
        return self.message_id or self.question

    @property
    def outcome(self) -> Outcome | None:
        """Return the outcome; None until the question was asked."""
        if self.ended_at is None:
            return None
        if self.error or self.missing:
            return Outcome.FAILED
        return overall(self.judged) if self.verdicts else Outcome.PASSED

    @property
    def has_passed(self) -> bool:
        return self.outcome == Outcome.PASSED

    @property
    def change(self) -> Change | None:
        match self.before, self.outcome:
            case Outcome.PASSED, Outcome.FAILED:
                return Change.NEWLY_FAILING
            case Outcome.FAILED, Outcome.PASSED:
                return Change.NEWLY_PASSING
        return None

    @property
    def judged(self) -> dict[Criterion, Verdict]:
        return as_verdicts(self.verdicts or {})
