"""Chatbots: who answers, with which words, how long, and with how much memory."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from simple_history.models import HistoricalRecords

from chatbots.appearance import Appearance
from chatbots.protection import Protection
from providers.base import Capability
from providers.registry import providers_with
from puffer.fresh import announce_change
from puffer.leases import Leased
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


class Chatbot(Appearance, Protection, models.Model):
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
        announce_change()

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **options)
        announce_change()
        return deleted

    @property
    def uses_knowledge(self) -> bool:
        return self.enable_vector_store and bool(self.collections)


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


class GoldenRun(Leased):
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


class TokenAllowance(models.Model):
    """What a visitor has used of a chatbot's quota in the current period, reserved tokens of running turns included."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    visitor = models.CharField(max_length=80, help_text="As limits.py names them.")
    period_start = models.DateTimeField()
    used = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "visitor"], name="one_allowance_of_a_visitor")]

    def __str__(self) -> str:
        return self.visitor


class MessageCount(models.Model):
    """How many messages were sent in a window of time, by a visitor, from an address, or to a chatbot at all."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    counted = models.CharField(max_length=80, help_text="Whose messages, as limits.py names them.")
    window = models.BigIntegerField(help_text="When it began, in Unix seconds.")
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "counted", "window"], name="one_count_of_a_window")]
        indexes = [models.Index(fields=["window"])]

    def __str__(self) -> str:
        return self.counted


class UsedIdentity(models.Model):
    """A signed identity that was taken once and is never taken again."""

    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.digest


class Consent(models.Model):
    """That a visitor has agreed, for whoever has to show it."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="consents")
    visitor = models.CharField(max_length=80)
    text_digest = models.CharField(max_length=64, help_text="SHA-256 of the title and message that were agreed to.")
    given_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["chatbot", "visitor", "text_digest"], name="one_consent_to_a_text")
        ]

    def __str__(self) -> str:
        return self.visitor


class SettledQuestion(models.Model):
    """A question that is off the list of the unanswered ones: answered until it fails again, or dismissed for good.

    Only its digest is here: what visitors wrote stands in the log and goes with it.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, help_text="As unanswered.py makes it.")
    document_id = models.CharField(max_length=100, blank=True, help_text="What answers it. Empty: it was dismissed.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    settled_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chatbot", "digest"], name="a_question_is_settled_once")]

    def __str__(self) -> str:
        return self.digest


class QuestionEmbedding(models.Model):
    """The vector of a question, so that comparing it with others costs one embedding and not one for every look."""

    provider = models.CharField(max_length=20)
    model = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, help_text="As unanswered.py makes it.")
    values = models.BinaryField(help_text="float32, little-endian.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "model", "digest"], name="one_embedding_of_a_question")
        ]

    def __str__(self) -> str:
        return self.digest
