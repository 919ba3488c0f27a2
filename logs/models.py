"""The log: conversations and messages, provider calls and their cost, daily totals and prices."""

import uuid
from collections.abc import Sequence

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from logs.search.normalize import NormalizedField
from logs.webhooks.models import Webhook as Webhook  # Django looks for models here
from logs.webhooks.models import WebhookDelivery as WebhookDelivery
from puffer.models import ApiKey


def new_uuid() -> str:
    return str(uuid.uuid4())


def new_message_id() -> str:
    return f"aipkit-msg-{uuid.uuid4().hex}"


class Feedback(models.TextChoices):
    UP = "up", _("up")
    DOWN = "down", _("down")


def failure_text(error: str) -> str:
    """Return the message that the log keeps in place of an answer."""
    return f"Error: {error}"


# Limits of the histogram in milliseconds: UsageDailyTotal counts in `up_to_100` the calls above 50 and up to 100.
DURATIONS = [10, 25, 50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10_000, 15_000, 30_000, 60_000]


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def of_bots(self, bot_ids: frozenset[int] | None) -> "ConversationQuerySet":
        """Filter by chatbot; None means any."""
        return self if bot_ids is None else self.filter(chatbot_id__in=bot_ids)

    def neighbor(self, conversation: "Conversation", order: Sequence[str], *, forward: bool) -> "Conversation | None":
        """Return the next conversation, or the previous one, in the order of these columns."""
        further, equal = Q(), Q()
        for number, column in enumerate(order):
            name = column.removeprefix("-")
            side = "lt" if column.startswith("-") == forward else "gt"
            value = getattr(conversation, name)
            further |= equal & Q(**{f"{name}__{side}": value})
            equal &= Q(**{name: value})
            if number == 0:
                bound = Q(**{f"{name}__{side}e": value})  # follows from `further`, but lets the database use an index
        found = self.filter(bound, further).order_by(*order)
        return (found if forward else found.reverse()).first()


class Conversation(models.Model):
    """The turns of one visitor, or one API caller, with one chatbot."""

    class Source(models.TextChoices):
        API = "api", "API"
        WIDGET = "widget", _("widget")
        PREVIEW = "preview", _("preview")

    chatbot = models.ForeignKey(
        "chatbots.Chatbot",
        null=True,
        on_delete=models.SET_NULL,
        related_name="conversations",
        verbose_name=_("chatbot"),
    )
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.SET_NULL)
    source = models.CharField(_("source"), max_length=10, choices=Source.choices, default=Source.API)
    session_id = models.CharField(max_length=64, null=True)  # noqa: DJ001  null and "" differ in GET /logs
    conversation_uuid = models.CharField(max_length=64, default=new_uuid)
    identity = models.CharField(
        max_length=64, unique=True, editable=False, help_text="Digest of the owner and the UUID, see Turn.identity()."
    )
    # The visitor as the site that embeds the widget has identified and signed them:
    external_user_id = models.CharField(max_length=200, blank=True)
    external_name = models.CharField(max_length=200, blank=True)
    external_email = models.CharField(max_length=254, blank=True)
    external_normalized = NormalizedField(of=("external_name", "external_email", "external_user_id"))
    ip_address = models.GenericIPAddressField(null=True)
    # Copied from the messages, so that lists need not read them:
    message_count = models.PositiveIntegerField(default=0)
    last_message = models.CharField(max_length=200, blank=True, help_text="Its first characters, on one line.")
    tokens = models.PositiveBigIntegerField(default=0)
    provider = models.CharField(max_length=20, blank=True, help_text="The provider of the last answer.")
    has_error = models.BooleanField(_("errors"), default=False)
    has_unanswered = models.BooleanField(
        _("unanswered"), default=False, help_text="A question got the refusal text, or no passage was found for it."
    )
    rating = models.CharField(
        _("rating"),
        max_length=4,
        choices=Feedback.choices,
        blank=True,
        help_text="Down if any answer got a thumbs down.",
    )
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(_("updated at"), default=timezone.now)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["updated_at"]),
            models.Index(fields=["conversation_uuid"]),
            models.Index(fields=["session_id"]),
            models.Index(fields=["external_user_id"]),
            models.Index(fields=["chatbot", "updated_at"]),
            models.Index(fields=["provider", "updated_at"]),
            models.Index(fields=["message_count", "updated_at"]),
            models.Index(fields=["tokens", "updated_at"]),
            # Partial indexes: few conversations have these marks, and the others cost nothing.
            models.Index(fields=["updated_at"], condition=Q(has_error=True), name="conversations_with_errors"),
            models.Index(fields=["updated_at"], condition=Q(has_unanswered=True), name="unanswered_conversations"),
            models.Index(fields=["rating", "updated_at"], condition=Q(rating__gt=""), name="rated_conversations"),
        ]
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")

    def __str__(self) -> str:
        return self.conversation_uuid

    @property
    def bot_name(self) -> str:
        return self.chatbot.name if self.chatbot else "(Deleted Bot)"

    @property
    def visitor_name(self) -> str:
        if self.user is not None:
            return self.user.get_full_name() or self.user.get_username()
        if self.external_user_id:
            return self.external_name or self.external_email or self.external_user_id
        return "Guest"


class Message(models.Model):
    """A question of a visitor, or an answer of a chatbot."""

    class Role(models.TextChoices):
        USER = "user", _("user")
        BOT = "bot", _("bot")

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    message_id = models.CharField(max_length=64, default=new_message_id, unique=True)
    role = models.CharField(max_length=10, choices=Role.choices)
    content = models.TextField()
    normalized = NormalizedField(of=("content",))
    redactions = models.JSONField(null=True, help_text="The number of redacted matches by kind.")
    created_at = models.DateTimeField(default=timezone.now)
    # Only for an answer:
    provider = models.CharField(max_length=20, blank=True)
    model = models.CharField(max_length=200, blank=True)
    usage = models.JSONField(null=True)
    cost = models.DecimalField(max_digits=14, decimal_places=8, null=True, help_text="In US dollars; null if unknown.")
    milliseconds = models.PositiveIntegerField(null=True)
    error = models.TextField(blank=True)
    feedback = models.CharField(max_length=4, choices=Feedback.choices, blank=True)
    passages = models.JSONField(null=True, help_text="The passages shown to the model; null without knowledge.")
    searched_for = models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="What the knowledge was searched for in addition to the visitor's message.",
    )

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.message_id

    @property
    def is_failure(self) -> bool:
        """Return whether the message is only an error. An interrupted answer has both an error and a text."""
        return bool(self.error) and self.content == failure_text(self.error)


class UsageEvent(models.Model):
    """One provider call: its caller, its usage, its cost and its result."""

    class Operation(models.TextChoices):
        COMPLETION = "completion", _("completion")
        EMBEDDING = "embedding", _("embedding")
        IMAGE = "image", _("image")
        REWRITE = "rewrite", _("question rewrite")
        RERANK = "rerank", _("reranking")

    created_at = models.DateTimeField(_("created at"), default=timezone.now, db_index=True)
    operation = models.CharField(_("operation"), max_length=12, choices=Operation.choices)
    provider = models.CharField(_("provider"), max_length=20)
    model = models.CharField(_("model"), max_length=200)
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.SET_NULL, verbose_name=_("API key"))
    caller = models.CharField(
        _("caller"), max_length=100, blank=True, help_text=_("The name of the API key at that time.")
    )
    chatbot = models.ForeignKey("chatbots.Chatbot", null=True, on_delete=models.SET_NULL, verbose_name=_("chatbot"))
    input_tokens = models.PositiveIntegerField(null=True)
    output_tokens = models.PositiveIntegerField(null=True)
    total_tokens = models.PositiveIntegerField(null=True)
    images = models.PositiveIntegerField(_("images"), default=0)
    cost = models.DecimalField(
        max_digits=14, decimal_places=8, null=True, help_text="In US dollars; null if the model's price is unknown."
    )
    milliseconds = models.PositiveIntegerField()
    status = models.PositiveSmallIntegerField(
        _("status"), help_text=_("The HTTP status that the caller got. 499: the caller disconnected before.")
    )
    error_code = models.CharField(_("error code"), max_length=100, blank=True)
    request_id = models.CharField(_("request ID"), max_length=100, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["provider", "created_at"]),
            models.Index(fields=["api_key", "created_at"]),
            models.Index(fields=["chatbot", "created_at"]),
        ]
        verbose_name = _("usage event")
        verbose_name_plural = _("usage events")

    def __str__(self) -> str:
        return f"{self.operation} {self.model}"


class DailyTotal(models.Model):
    """The measures of one day in the site's time zone, summed over all rows with the same dimensions.

    Totals stay when the rows that they were made of are deleted.
    """

    dimensions = ["day", "chatbot_id", "api_key_id", "provider", "model"]
    measures: list[str]

    identity = models.CharField(
        max_length=300,
        unique=True,
        editable=False,
        help_text="The dimensions as they were at first, joined: a chatbot or a key may be deleted later.",
    )
    day = models.DateField(db_index=True)
    chatbot = models.ForeignKey("chatbots.Chatbot", null=True, on_delete=models.SET_NULL, related_name="+")
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.SET_NULL, related_name="+")
    provider = models.CharField(max_length=20, blank=True)
    model = models.CharField(max_length=200, blank=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.identity


class ConversationDailyTotal(DailyTotal):
    """The conversations and messages of a day. A conversation counts with the dimensions of its first turn."""

    measures = ["conversations", "messages"]

    conversations = models.PositiveIntegerField(default=0)
    messages = models.PositiveIntegerField(default=0)


class UsageDailyTotal(DailyTotal):
    """The provider calls of a day."""

    dimensions = [*DailyTotal.dimensions, "operation"]
    histogram = [*(f"up_to_{milliseconds}" for milliseconds in DURATIONS), "longer"]
    measures = [
        *("calls", "errors", "input_tokens", "output_tokens", "images", "cost", "without_price"),
        *histogram,
    ]

    operation = models.CharField(max_length=12, choices=UsageEvent.Operation.choices)
    calls = models.PositiveIntegerField(default=0)
    errors = models.PositiveIntegerField(default=0, help_text="Without callers who disconnected.")
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    images = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(max_digits=20, decimal_places=8, default=0)
    without_price = models.PositiveIntegerField(default=0, help_text="Calls that succeeded and whose cost is unknown.")
    # A histogram of how long successful calls took, in milliseconds:
    up_to_10 = models.PositiveIntegerField(default=0)
    up_to_25 = models.PositiveIntegerField(default=0)
    up_to_50 = models.PositiveIntegerField(default=0)
    up_to_100 = models.PositiveIntegerField(default=0)
    up_to_200 = models.PositiveIntegerField(default=0)
    up_to_300 = models.PositiveIntegerField(default=0)
    up_to_500 = models.PositiveIntegerField(default=0)
    up_to_750 = models.PositiveIntegerField(default=0)
    up_to_1000 = models.PositiveIntegerField(default=0)
    up_to_1500 = models.PositiveIntegerField(default=0)
    up_to_2000 = models.PositiveIntegerField(default=0)
    up_to_3000 = models.PositiveIntegerField(default=0)
    up_to_5000 = models.PositiveIntegerField(default=0)
    up_to_7500 = models.PositiveIntegerField(default=0)
    up_to_10000 = models.PositiveIntegerField(default=0)
    up_to_15000 = models.PositiveIntegerField(default=0)
    up_to_30000 = models.PositiveIntegerField(default=0)
    up_to_60000 = models.PositiveIntegerField(default=0)
    longer = models.PositiveIntegerField(default=0)


class ModelPrice(models.Model):
    """The owner's price for a model, in place of the list price."""

    provider = models.CharField(_("provider"), max_length=20, help_text=_("The provider's slug, such as openai."))
    model = models.CharField(_("model"), max_length=200)
    input_price = models.DecimalField(
        _("input"), max_digits=12, decimal_places=6, help_text=_("US$ per million tokens")
    )
    output_price = models.DecimalField(
        _("output"), max_digits=12, decimal_places=6, help_text=_("US$ per million tokens")
    )
    image_price = models.DecimalField(
        _("image"), max_digits=12, decimal_places=6, default=0, help_text=_("US$ per image")
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "model"], name="one_price_per_model")]
        ordering = ["provider", "model"]
        verbose_name = _("model price")
        verbose_name_plural = _("model prices")

    def __str__(self) -> str:
        return f"{self.provider} {self.model}"
