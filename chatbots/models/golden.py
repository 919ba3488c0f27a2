"""Golden questions: questions with known answers, and the results of asking them."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from chatbots.models.chatbot import Chatbot
from puffer.runtime import Job


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
    """A job that asks all golden questions of a chatbot. Only the last run of each chatbot is kept."""

    chatbot = models.OneToOneField(Chatbot, on_delete=models.CASCADE, related_name="golden_run")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    settings = models.JSONField(help_text="The chatbot's settings under test, saved on the chatbot or not.")
    saved_settings = models.JSONField(help_text="The settings that were saved on the chatbot when the run was queued.")
    is_before_publishing = models.BooleanField(
        default=False, help_text="Whether a user still has to decide if these settings are published."
    )

    def __str__(self) -> str:
        return f"Golden questions of {self.chatbot_id}"


class GoldenResult(models.Model):
    """A copy of a golden question, made when its run was requested, and its result once `ended_at` is set."""

    run = models.ForeignKey(GoldenRun, on_delete=models.CASCADE, related_name="results")
    question = models.TextField()
    expected_facts = models.TextField(blank=True)
    expected_source = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True)
    missing = models.TextField(blank=True, help_text="The expectations that were not met, one sentence per line.")
    answer = models.TextField(blank=True)
    error = models.TextField(blank=True)
    sources = models.JSONField(default=list, help_text="Title, address and score of each passage that the model saw.")
    model = models.CharField(max_length=200, blank=True)
    usage = models.JSONField(null=True)
    cost = models.DecimalField(max_digits=14, decimal_places=8, null=True, help_text="US dollars; null: unknown.")
    milliseconds = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.question[:60]

    @property
    def has_passed(self) -> bool:
        return self.ended_at is not None and not (self.missing or self.error)
