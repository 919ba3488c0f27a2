"""TODO docstring."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from chatbots.models.chatbot import Chatbot
from puffer.runtime import Job


class GoldenQuestion(models.Model):
    """A question whose answer is known: what the chatbot says to it shows whether it is fit to be published."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="golden_questions")
    question = models.TextField(max_length=10_000)
    expected_facts = models.TextField(
        "expected fact",
        max_length=5000,
        blank=True,
        help_text="What the answer must hold, upper and lower case alike. Of several lines one is enough.",
    )
    expected_source = models.CharField(
        max_length=2000,
        blank=True,
        help_text="Title, address or id of a document that the model must get to see.",
    )
    is_enabled = models.BooleanField("ask it", default=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.question[:60]

    def clean(self) -> None:
        if not (self.expected_facts.strip() or self.expected_source.strip()):
            raise ValidationError("Say what is expected: a fact, a source, or both.")


class GoldenRun(Job):
    """A chatbot's golden questions on their way through a worker, and what came of them; only the last run is kept."""

    chatbot = models.OneToOneField(Chatbot, on_delete=models.CASCADE, related_name="golden_run")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    settings = models.JSONField(help_text="The chatbot's, as they answer the questions; they need not be saved there.")
    is_before_publishing = models.BooleanField(
        default=False, help_text="Until somebody decides on it: the settings are to be published."
    )

    def __str__(self) -> str:
        return f"Golden questions of {self.chatbot_id}"


class GoldenResult(models.Model):
    """As the question was when the run was asked for. What came of it is here once `ended_at` is."""

    run = models.ForeignKey(GoldenRun, on_delete=models.CASCADE, related_name="results")
    question = models.TextField()
    expected_facts = models.TextField(blank=True)
    expected_source = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True)
    missing = models.TextField(blank=True, help_text="What was expected and did not come.")
    answer = models.TextField(blank=True)
    error = models.TextField(blank=True)
    sources = models.JSONField(default=list, help_text="Title and score of each passage that the model got to see.")
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
