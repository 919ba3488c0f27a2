"""What was said and what it cost."""

import uuid
from collections.abc import Sequence

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from logs.search.normalize import NormalizedField
from logs.webhooks.models import Webhook as Webhook  # Django looks for models here
from logs.webhooks.models import WebhookDelivery as WebhookDelivery
from puffer.models import ApiKey


def new_uuid() -> str:
    return str(uuid.uuid4())


def new_message_id() -> str:
    return f"aipkit-msg-{uuid.uuid4().hex}"


class Feedback(models.TextChoices):
    UP = "up", "up"
    DOWN = "down", "down"


def failure_text(error: str) -> str:
    """What stands in the log in place of an answer."""
    return f"Error: {error}"


# Milliseconds that divide answer times: UsageDailyTotal counts in `up_to_100` those above 50 and up to 100, and so on.
DURATIONS = [10, 25, 50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10_000, 15_000, 30_000, 60_000]


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def of_bots(self, bot_ids: frozenset[int] | None) -> "ConversationQuerySet":
        """Those with one of the chatbots; None means any."""
        return self if bot_ids is None else self.filter(chatbot_id__in=bot_ids)

    def beside(self, conversation: "Conversation", order: Sequence[str], *, forward: bool) -> "Conversation | None":
        """The next one, or else the one before, where they are ordered by these columns."""
        beyond, alike = Q(), Q()
        for number, column in enumerate(order):
            name = column.removeprefix("-")
            side = "lt" if column.startswith("-") == forward else "gt"
            value = getattr(conversation, name)
            beyond |= alike & Q(**{f"{name}__{side}": value})
            alike &= Q(**{name: value})
            if number == 0:
                near = Q(**{f"{name}__{side}e": value})  # says no more than the rest, but an index understands it
        found = self.filter(near, beyond).order_by(*order)
        return (found if forward else found.reverse()).first()


class Conversation(models.Model):
    """Many turns of one visitor, or one caller, with one chatbot."""

    class Source(models.TextChoices):
        API = "api", "API"
        WIDGET = "widget", "widget"
        PREVIEW = "preview", "preview"

    chatbot = models.ForeignKey("chatbots.Chatbot", null=True, on_delete=models.SET_NULL, related_name="conversations")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.SET_NULL)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.API)
    session_id = models.CharField(max_length=64, null=True)  # noqa: DJ001  null and "" differ in GET /logs
    conversation_uuid = models.CharField(max_length=64, default=new_uuid)
    identity = models.CharField(
        max_length=64, unique=True, editable=False, help_text="A digest of what a conversation is found again by."
    )
    # Whom the site that embeds the widget says its visitor is, signed by that site:
    external_user_id = models.CharField(max_length=200, blank=True)
    external_name = models.CharField(max_length=200, blank=True)
    external_email = models.CharField(max_length=254, blank=True)
    external_normalized = NormalizedField(of=("external_name", "external_email", "external_user_id"))
    ip_address = models.GenericIPAddressField(null=True)
    # What a list tells of its messages, so that it need not look at them:
    message_count = models.PositiveIntegerField(default=0)
    last_message = models.CharField(max_length=200, blank=True, help_text="Its beginning, on one line.")
    tokens = models.PositiveBigIntegerField(default=0)
    provider = models.CharField(max_length=20, blank=True, help_text="Of the last answer.")
    has_error = models.BooleanField("errors", default=False)
    has_unanswered = models.BooleanField(
        "unanswered", default=False, help_text="A question got the refusal, or the knowledge holds nothing near it."
    )
    rating = models.CharField(
        max_length=4, choices=Feedback.choices, blank=True, help_text="Down, if one answer was voted down."
    )
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

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
            # Few have these marks: an index of those alone costs the others nothing.
            models.Index(fields=["updated_at"], condition=Q(has_error=True), name="conversations_with_errors"),
            models.Index(fields=["updated_at"], condition=Q(has_unanswered=True), name="unanswered_conversations"),
            models.Index(fields=["rating", "updated_at"], condition=Q(rating__gt=""), name="rated_conversations"),
        ]

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
    class Role(models.TextChoices):
        USER = "user", "user"
        BOT = "bot", "bot"

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    message_id = models.CharField(max_length=64, default=new_message_id, unique=True)
    role = models.CharField(max_length=10, choices=Role.choices)
    content = models.TextField()
    normalized = NormalizedField(of=("content",))
    redactions = models.JSONField(null=True, help_text="How many of each kind were taken out of the content.")
    created_at = models.DateTimeField(default=timezone.now)
    # Only of a bot's message:
    provider = models.CharField(max_length=20, blank=True)
    model = models.CharField(max_length=200, blank=True)
    usage = models.JSONField(null=True)
    cost = models.DecimalField(max_digits=14, decimal_places=8, null=True, help_text="As of a usage event.")
    milliseconds = models.PositiveIntegerField(null=True)
    error = models.TextField(blank=True)
    feedback = models.CharField(max_length=4, choices=Feedback.choices, blank=True)
    passages = models.JSONField(null=True, help_text="What the model was shown of the chatbot's knowledge.")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.message_id

    @property
    def is_failure(self) -> bool:
        """Whether it only tells of an error: a bot's answer that was broken off still says something."""
        return bool(self.error) and self.content == failure_text(self.error)


class UsageEvent(models.Model):
    """One call of a provider: who caused it, what it used, what it cost, how it ended."""

    class Operation(models.TextChoices):
        COMPLETION = "completion", "completion"
        EMBEDDING = "embedding", "embedding"
        IMAGE = "image", "image"

    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    operation = models.CharField(max_length=12, choices=Operation.choices)
    provider = models.CharField(max_length=20)
    model = models.CharField(max_length=200)
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.SET_NULL)
    caller = models.CharField(max_length=100, blank=True, help_text="The API key's name at that time.")
    chatbot = models.ForeignKey("chatbots.Chatbot", null=True, on_delete=models.SET_NULL)
    input_tokens = models.PositiveIntegerField(null=True)
    output_tokens = models.PositiveIntegerField(null=True)
    total_tokens = models.PositiveIntegerField(null=True)
    images = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(
        max_digits=14, decimal_places=8, null=True, help_text="In US dollars; empty if the model's price is unknown."
    )
    milliseconds = models.PositiveIntegerField()
    status = models.PositiveSmallIntegerField(help_text="The HTTP status that the caller got; 499: they left before.")
    error_code = models.CharField(max_length=100, blank=True)
    request_id = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["provider", "created_at"]),
            models.Index(fields=["api_key", "created_at"]),
            models.Index(fields=["chatbot", "created_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.model}"


class DailyTotal(models.Model):
    """A sum of what happened on one day of the site's time zone, over all that is alike in the columns here.

    Deleting what it was made of does not undo what happened, so the sums stay.
    """

    dimensions = ["day", "chatbot_id", "api_key_id", "provider", "model"]
    measures: list[str]

    identity = models.CharField(
        max_length=300,
        unique=True,
        editable=False,
        help_text="The columns below in one, as they were at first: a chatbot or a key may be deleted since.",
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
    """Of turns. A conversation counts where it began, also for the provider and the model."""

    measures = ["conversations", "messages"]

    conversations = models.PositiveIntegerField(default=0)
    messages = models.PositiveIntegerField(default=0)


class UsageDailyTotal(DailyTotal):
    """Of usage events."""

    dimensions = [*DailyTotal.dimensions, "operation"]
    histogram = [*(f"up_to_{milliseconds}" for milliseconds in DURATIONS), "longer"]
    measures = [
        *("calls", "errors", "input_tokens", "output_tokens", "images", "cost", "without_price"),
        *histogram,
    ]

    operation = models.CharField(max_length=12, choices=UsageEvent.Operation.choices)
    calls = models.PositiveIntegerField(default=0)
    errors = models.PositiveIntegerField(default=0, help_text="Without those whose caller left.")
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    images = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(max_digits=20, decimal_places=8, default=0)
    without_price = models.PositiveIntegerField(default=0, help_text="Calls that succeeded and whose cost is unknown.")
    # How long the calls took that succeeded:
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
    """What a model costs here, where that is not the list price."""

    provider = models.CharField(max_length=20, help_text="The provider's slug, such as openai.")
    model = models.CharField(max_length=200)
    input_price = models.DecimalField("input", max_digits=12, decimal_places=6, help_text="US$ per million tokens")
    output_price = models.DecimalField("output", max_digits=12, decimal_places=6, help_text="US$ per million tokens")
    image_price = models.DecimalField("image", max_digits=12, decimal_places=6, default=0, help_text="US$ per image")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "model"], name="one_price_per_model")]
        ordering = ["provider", "model"]

    def __str__(self) -> str:
        return f"{self.provider} {self.model}"
