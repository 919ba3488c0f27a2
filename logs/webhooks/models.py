"""Webhooks, and the outbox of their deliveries."""

import secrets
import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from puffer.net import validate_public_url
from puffer.runtime import Job, LiveModel
from puffer.security import EncryptedTextField

SECRET_PREFIX = "whsec_"  # noqa: S105 - lets secret scanners recognize one
TEST = "chatbot.test"


class EventName(models.TextChoices):
    """The names of events: those of AI Puffer, and LIMIT_REACHED."""

    SESSION_STARTED = "chatbot.session_started", _("visitor arrived")
    USER_MESSAGE = "chatbot.user_message_submitted", _("question asked")
    RESPONSE = "chatbot.response_generated", _("question answered")
    FEEDBACK = "chatbot.fb_submitted", _("answer rated")
    LIMIT_REACHED = "chatbot.limit_reached", _("limit reached")


def new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def validate_events(events: Any) -> None:
    if not isinstance(events, list) or not events or not set(events) <= set(EventName.values):
        raise ValidationError(gettext("Choose at least one of %(events)s.") % {"events": ", ".join(EventName.values)})


class Webhook(LiveModel):
    """A URL that receives the events of chats."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    url = models.CharField(_("URL"), max_length=1000, validators=[validate_public_url])
    secret = EncryptedTextField(default=new_secret, editable=False, help_text="Deliveries are signed with it.")
    events = models.JSONField(_("events"), default=list, validators=[validate_events], help_text=_("Events to send."))
    # A separate flag: if an empty list meant "all chatbots", deleting the last one would send the events of all others.
    is_bound = models.BooleanField(
        _("only some chatbots"),
        default=False,
        help_text=_("Only send events of the chatbots below."),
    )
    chatbots = models.ManyToManyField("chatbots.Chatbot", blank=True, verbose_name=_("chatbots"))
    is_active = models.BooleanField(_("active"), default=True, help_text=_("When off, no events are recorded."))
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="In a row, since the last success.")
    paused_until = models.DateTimeField(null=True, editable=False, help_text="No delivery is tried before.")
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        ordering = ["name"]
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")

    def __str__(self) -> str:
        return self.name


class WebhookDelivery(Job):
    """One event for one webhook: a row of the outbox. Every attempt sends the same bytes under the same IDs."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries", verbose_name=_("webhook"))
    delivery_id = models.UUIDField(_("delivery ID"), default=uuid.uuid4, unique=True, editable=False)
    event = models.CharField(_("event"), max_length=50)
    event_id = models.UUIDField(_("event ID"), help_text=_("The same for all webhooks and for every repetition."))
    payload = models.TextField(help_text="JSON, as it is signed and sent.")
    # The person whom the event is about, for erasure. Deleting a conversation deletes its deliveries.
    conversation = models.ForeignKey("logs.Conversation", null=True, on_delete=models.CASCADE, related_name="+")
    chatbot = models.ForeignKey(
        "chatbots.Chatbot", null=True, on_delete=models.SET_NULL, related_name="+", verbose_name=_("chatbot")
    )
    visitor = models.CharField(max_length=80, blank=True, db_index=True, help_text="The result of visitor_key().")
    response_status = models.PositiveSmallIntegerField(_("response status"), null=True)
    response_excerpt = models.TextField(blank=True)
    milliseconds = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, db_index=True)

    class Meta(Job.Meta):
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        ordering = ["-id"]
        indexes = [models.Index(fields=["webhook", "state", "due_at"], name="logs_webhookdelivery_next")]

    def __str__(self) -> str:
        return str(self.delivery_id)

    def send_again(self) -> "WebhookDelivery":
        """Create a new delivery of the same event."""
        copied = ["webhook_id", "event", "event_id", "payload", "conversation_id", "chatbot_id", "visitor"]
        return WebhookDelivery.objects.create(**{name: getattr(self, name) for name in copied})
