"""TODO docstring."""

import secrets
import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from puffer.net import validate_public_url
from puffer.runtime import Job, invalidate
from puffer.security import EncryptedTextField

SECRET_PREFIX = "whsec_"  # noqa: S105 - so that a scanner of code knows one when it sees it


TEST = "chatbot.test"


class EventName(models.TextChoices):
    """As AI Puffer calls them, and the last of our own."""

    SESSION_STARTED = "chatbot.session_started", "a visitor comes"
    USER_MESSAGE = "chatbot.user_message_submitted", "a question is asked"
    RESPONSE = "chatbot.response_generated", "a chatbot has answered"
    FEEDBACK = "chatbot.fb_submitted", "a visitor votes on an answer"
    LIMIT_REACHED = "chatbot.limit_reached", "a limit is reached"


def new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def validate_events(events: Any) -> None:
    if not isinstance(events, list) or not events or not set(events) <= set(EventName.values):
        raise ValidationError(f"Choose at least one of {', '.join(EventName.values)}.")


class Webhook(models.Model):
    """An address that is told of what happens in chats."""

    name = models.CharField(max_length=100, unique=True)
    url = models.CharField("URL", max_length=1000, validators=[validate_public_url])
    secret = EncryptedTextField(default=new_secret, editable=False, help_text="What is sent is signed with it.")
    events = models.JSONField(default=list, validators=[validate_events], help_text="What it is told of.")
    # A flag of its own: were it the empty list that means "all", deleting its last chatbot would open all others.
    is_bound = models.BooleanField(
        "only some chatbots", default=False, help_text="It hears of the chatbots below alone."
    )
    chatbots = models.ManyToManyField("chatbots.Chatbot", blank=True)
    is_active = models.BooleanField(
        "active", default=True, help_text="While it is not, nothing is written down for it."
    )
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="Since something arrived.")
    paused_until = models.DateTimeField(null=True, editable=False, help_text="After a failure nothing is sent before.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **options: Any) -> None:
        super().save(*args, **options)
        invalidate()

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **options)
        invalidate()
        return deleted


class WebhookDelivery(Job):
    """One event on its way to one webhook. Every attempt sends the same bytes under the same ids."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    delivery_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    event = models.CharField(max_length=50)
    event_id = models.UUIDField(help_text="The same for all webhooks, and when it is sent again.")
    payload = models.TextField(help_text="JSON, as it is signed and sent.")
    # Whom it is about, to be found when they are to be forgotten; with a conversation its deliveries go too.
    conversation = models.ForeignKey("logs.Conversation", null=True, on_delete=models.CASCADE, related_name="+")
    chatbot = models.ForeignKey("chatbots.Chatbot", null=True, on_delete=models.SET_NULL, related_name="+")
    visitor = models.CharField(max_length=80, blank=True, db_index=True, help_text="As visitor_key() makes it.")
    response_status = models.PositiveSmallIntegerField(null=True)
    response_excerpt = models.TextField(blank=True)
    milliseconds = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta(Job.Meta):
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        ordering = ["-id"]

    def __str__(self) -> str:
        return str(self.delivery_id)

    def send_again(self) -> "WebhookDelivery":
        """The same event on its way anew, as a delivery of its own."""
        told = ["webhook_id", "event", "event_id", "payload", "conversation_id", "chatbot_id", "visitor"]
        return WebhookDelivery.objects.create(**{name: getattr(self, name) for name in told})
