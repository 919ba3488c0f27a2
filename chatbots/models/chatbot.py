"""The chatbot: its model, instructions and knowledge. Theme and limit settings are in files of their own."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from chatbots.models.limits import LimitSettings
from chatbots.models.theme import ThemeSettings
from providers.base import Capability
from providers.registry import providers_with
from puffer.runtime import LiveModel
from vectorstores.registry import STORES

MAX_COLLECTIONS = 20
MAX_COLLECTION_NAME = 200  # characters
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
        raise ValidationError(_("Enter a list of collection names."))
    if len(value) > MAX_COLLECTIONS or any(len(name) > MAX_COLLECTION_NAME for name in value):
        raise ValidationError(
            _("Enter at most %(names)d names of at most %(length)d characters."),
            params={"names": MAX_COLLECTIONS, "length": MAX_COLLECTION_NAME},
        )


class ChatbotQuerySet(models.QuerySet["Chatbot"]):
    def published(self) -> "ChatbotQuerySet":
        """Return the chatbots that visitors of websites can use."""
        return self.filter(status=Chatbot.Status.PUBLISHED)


class Chatbot(ThemeSettings, LimitSettings, LiveModel):
    class Status(models.TextChoices):
        PUBLISHED = "published", _("Published")
        DRAFT = "draft", _("Draft")
        TRASH = "trash", _("In the trash")

    class ReasoningEffort(models.TextChoices):
        NONE = "none", _("None")
        LOW = "low", _("Low")
        MEDIUM = "medium", _("Medium")
        HIGH = "high", _("High")
        XHIGH = "xhigh", _("Extra high")

    name = models.CharField(_("name"), max_length=200, default="New Chatbot")
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.PUBLISHED,
        help_text=_("A draft answers API calls only, so that you can try it. In the trash: answers no one."),
    )  # fmt: skip
    provider = models.CharField(
        _("provider"), max_length=20, choices=provider_choices, blank=True,
        help_text=_("Leave empty to use the first connected provider."),
    )  # fmt: skip
    model = models.CharField(
        _("model"), max_length=200, blank=True,
        help_text=_("The id of a model. Leave empty to use the provider's default model."),
    )  # fmt: skip
    instructions = models.TextField(
        _("instructions"), blank=True, default=DEFAULT_INSTRUCTIONS,
        help_text=_(
            "Who the chatbot is and how it answers. [date] becomes today's date, [username] the visitor's name."
        ),
    )  # fmt: skip
    temperature = models.FloatField(
        _("temperature"), default=1.0, validators=[MinValueValidator(0), MaxValueValidator(2)],
        help_text=_("0 to 2. Higher values make the answers more varied. Some models ignore this."),
    )  # fmt: skip
    max_completion_tokens = models.PositiveIntegerField(
        _("maximum answer length"), default=4000, validators=[MinValueValidator(1), MaxValueValidator(128_000)],
        help_text=_("In tokens."),
    )  # fmt: skip
    max_messages = models.PositiveIntegerField(
        _("memory"), default=15, validators=[MinValueValidator(1), MaxValueValidator(1024)],
        help_text=_("How many earlier messages of the conversation the model sees."),
    )  # fmt: skip
    reasoning_effort = models.CharField(
        _("reasoning effort"), max_length=10, choices=ReasoningEffort.choices, default=ReasoningEffort.NONE,
        help_text=_("For models that think before they answer."),
    )  # fmt: skip
    enable_vector_store = models.BooleanField(
        _("use knowledge"), default=False, help_text=_("Search the collections below for every question.")
    )
    vector_store_provider = models.CharField(
        _("vector store"), max_length=20, choices=store_choices, default="local",
        help_text=_("Where the collections are stored."),
    )  # fmt: skip
    collections = models.JSONField(
        _("collections"), default=list, blank=True, validators=[validate_collections],
        help_text=_("Tick the collections to use."),
    )  # fmt: skip
    namespace = models.CharField(
        _("namespace"), max_length=200, blank=True,
        help_text=_("A section of the collections, in Pinecone or the local store. Leave empty for the default."),
    )  # fmt: skip
    vector_embedding_provider = models.CharField(
        _("embedding provider"), max_length=20, choices=embedding_provider_choices, blank=True,
        help_text=_("Leave empty to use the provider that embedded the first collection."),
    )  # fmt: skip
    vector_embedding_model = models.CharField(
        _("embedding model"), max_length=200, blank=True,
        help_text=_("Must be the collections' embedding model. Leave empty to use the first collection's model."),
    )  # fmt: skip
    vector_store_top_k = models.PositiveIntegerField(
        _("passages"), default=3, validators=[MinValueValidator(1), MaxValueValidator(20)],
        help_text=_("The most passages the model sees from each collection."),
    )  # fmt: skip
    vector_store_confidence_threshold = models.PositiveIntegerField(
        _("threshold"), default=20, validators=[MaxValueValidator(100)],
        help_text=_("How similar a passage must be to the question, in percent."),
    )  # fmt: skip
    rewrite_questions = models.BooleanField(
        _("rewrite follow-up questions"), default=False, db_default=False,
        help_text=_(
            "The chatbot's model first writes each follow-up question as one that can be understood by itself. Adds a"
            " short model call, and up to 3 seconds, to each message after the first."
        ),
    )  # fmt: skip
    reranker = models.CharField(
        _("reranker"), max_length=20, blank=True, default="", db_default="",
        help_text=_(
            "Orders the passages found before the best ones go to the model. It gets the question and the passages."
        ),
    )  # fmt: skip
    show_sources = models.BooleanField(
        _("show sources"), default=True, help_text=_("List the documents that an answer is based on.")
    )
    only_from_sources = models.BooleanField(
        _("answer only from sources"), default=False,
        help_text=_("If nothing is found, reply with the refusal text."),
    )  # fmt: skip
    refusal_message = models.TextField(
        _("refusal"), default=REFUSAL, help_text=_("The reply when nothing is found and only sources may be used.")
    )
    knowledge_unavailable_message = models.TextField(
        _("knowledge unavailable text"), default=KNOWLEDGE_UNAVAILABLE,
        help_text=_("The reply when the collections cannot be searched and only sources may be used."),
    )  # fmt: skip
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = ChatbotQuerySet.as_manager()
    # A version for every save. The secret is left out: people who may read the history need not know it.
    history = HistoricalRecords(excluded_fields=["identity_secret", "created_at", "updated_at"])
    _change_reason: str  # the reason recorded with the version; django-simple-history reads this attribute

    class Meta:
        verbose_name = _("chatbot")
        verbose_name_plural = _("chatbots")
        ordering = ["name", "id"]
        permissions = [("manage_identity_secret", "Can see and renew the identity secret of chatbots")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_published(self) -> bool:
        """Return whether visitors of websites can use the chatbot."""
        return self.status == self.Status.PUBLISHED

    @property
    def answers_api_calls(self) -> bool:
        return self.status in (self.Status.PUBLISHED, self.Status.DRAFT)

    @property
    def uses_knowledge(self) -> bool:
        return self.enable_vector_store and bool(self.collections)
