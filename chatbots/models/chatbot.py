"""Chatbots: who answers, with which words, how long, and with how much memory."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from simple_history.models import HistoricalRecords

from chatbots.models.limits import LimitSettings
from chatbots.models.theme import ThemeSettings
from providers.base import Capability
from providers.registry import providers_with
from puffer.runtime import invalidate
from vectorstores.registry import STORES

MAX_COLLECTIONS = 20
REFUSAL = "I have no information about that."
KNOWLEDGE_UNAVAILABLE = "I can't look that up right now. Please try again in a little while."
DEFAULT_INSTRUCTIONS = "You are a helpful AI Assistant. Please be friendly. Today's date is [date]."


def provider_choices() -> list[tuple[str, str]]:
    return [(provider.slug, provider.label) for provider in providers_with(Capability.COMPLETION)]


def embedding_provider_choices() -> list[tuple[str, str]]:
    return [(provider.slug, provider.label) for provider in providers_with(Capability.EMBEDDING)]


def store_choices() -> list[tuple[str, str]]:
    return [(store.slug, store.label) for store in STORES.values()]


def validate_collections(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise ValidationError("It must be a list of names.")
    if len(value) > MAX_COLLECTIONS or any(len(name) > 200 for name in value):
        raise ValidationError(f"At most {MAX_COLLECTIONS} names of at most 200 characters.")


class ChatbotQuerySet(models.QuerySet["Chatbot"]):
    def answering(self) -> "ChatbotQuerySet":
        """Those that may be talked to through the API."""
        return self.filter(status__in=[Chatbot.Status.PUBLISHED, Chatbot.Status.DRAFT])

    def published(self) -> "ChatbotQuerySet":
        """Those that visitors of web sites may meet."""
        return self.filter(status=Chatbot.Status.PUBLISHED)


class Chatbot(ThemeSettings, LimitSettings, models.Model):
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
    enable_vector_store = models.BooleanField(
        "use knowledge", default=False, help_text="Look every question up in the collections below."
    )
    vector_store_provider = models.CharField(
        "vector store", max_length=20, choices=store_choices, default="local", help_text="Where the collections are."
    )
    collections = models.JSONField(
        default=list, blank=True, validators=[validate_collections], help_text="The names of the collections."
    )
    namespace = models.CharField(
        max_length=200, blank=True, help_text="A part of the collections. Pinecone and the local store have them."
    )
    vector_embedding_provider = models.CharField(
        "embedding provider",
        max_length=20,
        choices=embedding_provider_choices,
        blank=True,
        help_text="Empty: the one that the first collection was filled with.",
    )
    vector_embedding_model = models.CharField(
        "embedding model",
        max_length=200,
        blank=True,
        help_text="It must be the model that the collections were filled with. Empty: that one.",
    )
    vector_store_top_k = models.PositiveIntegerField(
        "passages",
        default=3,
        validators=[MinValueValidator(1), MaxValueValidator(20)],
        help_text="How many the model gets to see, at most, from each collection.",
    )
    vector_store_confidence_threshold = models.PositiveIntegerField(
        "threshold",
        default=20,
        validators=[MaxValueValidator(100)],
        help_text="In percent: how near to the question a passage must be.",
    )
    show_sources = models.BooleanField(default=True, help_text="Name the documents that an answer is drawn from.")
    only_from_sources = models.BooleanField(
        "answer only from sources", default=False, help_text="Without a passage the refusal is the answer."
    )
    refusal_message = models.TextField(
        "refusal", default=REFUSAL, help_text="What is said when nothing was found and only sources may be used."
    )
    knowledge_unavailable_message = models.TextField(
        "knowledge is unavailable",
        default=KNOWLEDGE_UNAVAILABLE,
        help_text="What is said when the collections can't be searched and only sources may be used.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ChatbotQuerySet.as_manager()
    # A version for every save, without the secret: who may read what changed need not know it.
    history = HistoricalRecords(excluded_fields=["identity_secret", "created_at", "updated_at"])
    _change_reason: str  # why it is being saved, for its version; django-simple-history looks for it

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **options: Any) -> None:
        super().save(*args, **options)
        invalidate()

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **options)
        invalidate()
        return deleted

    @property
    def uses_knowledge(self) -> bool:
        return self.enable_vector_store and bool(self.collections)
