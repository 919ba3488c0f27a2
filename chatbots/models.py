"""Chatbots: who answers, with which words, how long, and with how much memory."""

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from providers.base import Capability
from providers.registry import providers_with
from puffer.fresh import announce_change

DEFAULT_INSTRUCTIONS = "You are a helpful AI Assistant. Please be friendly. Today's date is [date]."


def provider_choices() -> list[tuple[str, str]]:
    return [(provider.slug, provider.label) for provider in providers_with(Capability.COMPLETION)]


class ChatbotQuerySet(models.QuerySet["Chatbot"]):
    def answering(self) -> "ChatbotQuerySet":
        """Those that may be talked to through the API."""
        return self.filter(status__in=[Chatbot.Status.PUBLISHED, Chatbot.Status.DRAFT])


class Chatbot(models.Model):
    class Status(models.TextChoices):
        PUBLISHED = "published", "published"
        DRAFT = "draft", "draft"
        TRASH = "trash", "in the trash"

    class ReasoningEffort(models.TextChoices):
        NONE = "none", "none"
        LOW = "low", "low"
        MEDIUM = "medium", "medium"
        HIGH = "high", "high"
        XHIGH = "xhigh", "extra high"

    name = models.CharField(max_length=200, default="New Chatbot")
    status = models.CharField(
        max_length=10,
        choices=Status.choices,
        default=Status.PUBLISHED,
        help_text="A draft answers API calls only, so that it can be tried out. In the trash it answers nobody.",
    )
    provider = models.CharField(
        max_length=20, choices=provider_choices, blank=True, help_text="Empty: the first provider that is configured."
    )
    model = models.CharField(
        max_length=200, blank=True, help_text="The model's id. Empty: the provider's default model."
    )
    instructions = models.TextField(
        blank=True,
        default=DEFAULT_INSTRUCTIONS,
        help_text="Who the chatbot is and how it answers. [date] becomes today's date, [username] the visitor's name.",
    )
    temperature = models.FloatField(
        default=1.0,
        validators=[MinValueValidator(0), MaxValueValidator(2)],
        help_text="0 to 2: the higher, the more varied the answers. Some models choose for themselves.",
    )
    max_completion_tokens = models.PositiveIntegerField(
        default=4000,
        validators=[MinValueValidator(1), MaxValueValidator(128_000)],
        help_text="The longest answer, in tokens.",
    )
    max_messages = models.PositiveIntegerField(
        "memory",
        default=15,
        validators=[MinValueValidator(1), MaxValueValidator(1024)],
        help_text="How many earlier messages of the conversation the model gets to see.",
    )
    reasoning_effort = models.CharField(
        max_length=10,
        choices=ReasoningEffort.choices,
        default=ReasoningEffort.NONE,
        help_text="For models that think before they answer.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ChatbotQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **options: Any) -> None:
        super().save(*args, **options)
        announce_change()

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **options)
        announce_change()
        return deleted
