"""What webhooks are told of: a row for each event and webhook, written in the transaction of what it tells.

a turn, a vote, ... -> Event -> tell(): rows for the webhooks that want it -> the worker sends them: webhooks.py
"""

import json
import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from puffer.encryption import EncryptedTextField
from puffer.fresh import Kept, announce_change
from puffer.http import is_loopback, is_private_address
from puffer.leases import Leased

SCHEMA_VERSION = "1"  # of the payload; raised when something in it is renamed or taken away
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


def validate_url(url: str) -> None:
    """https, and no address of a private network; of a host in PRIVATE_HOST_ALLOWLIST either. Raises ValidationError.

    A name may still lead to a private address: whoever sends looks at that again.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValidationError("This is not a URL.") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or not (url.isascii() and url.isprintable() and " " not in url)
    ):
        raise ValidationError("Give a whole URL, such as https://www.example.com/puffer.")
    if parts.username or parts.password or parts.fragment:
        raise ValidationError("The URL must not hold a user, a password or a fragment.")
    if host in settings.PRIVATE_HOST_ALLOWLIST:
        return
    if parts.scheme == "http":
        raise ValidationError(f"What visitors say goes out by https only. Or add {host} to PRIVATE_HOST_ALLOWLIST.")
    if is_loopback(host) or is_private_address(host):
        raise ValidationError(f"{host} is a private address. To allow it, add it to PRIVATE_HOST_ALLOWLIST.")


class Webhook(models.Model):
    """An address that is told of what happens in chats."""

    name = models.CharField(max_length=100, unique=True)
    url = models.CharField("URL", max_length=1000, validators=[validate_url])
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
        announce_change()

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **options)
        announce_change()
        return deleted


class WebhookDelivery(Leased):
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

    class Meta(Leased.Meta):
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        ordering = ["-id"]

    def __str__(self) -> str:
        return str(self.delivery_id)

    def send_again(self) -> "WebhookDelivery":
        """The same event on its way anew, as a delivery of its own."""
        told = ["webhook_id", "event", "event_id", "payload", "conversation_id", "chatbot_id", "visitor"]
        return WebhookDelivery.objects.create(**{name: getattr(self, name) for name in told})


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. `data` is what is particular to events of the name; `visitor_key` finds those of a person."""

    name: str
    chatbot_id: int | None
    data: dict[str, Any]
    source: str = ""
    session_id: str = ""
    external_user_id: str = ""
    visitor_key: str = ""
    conversation_id: int | None = None
    conversation_uuid: str = ""

    def payload(self, event_id: uuid.UUID, now: datetime) -> str:
        """In ASCII, so that no receiver can sign other bytes than it was sent."""
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "event": self.name,
                "event_id": str(event_id),
                "occurred_at": now.isoformat(timespec="milliseconds"),
                "chatbot_id": self.chatbot_id,
                "source": self.source,
                "conversation_uuid": self.conversation_uuid or None,
                "visitor": {"session_id": self.session_id or None, "user_id": self.external_user_id or None},
                "data": self.data,
            }
        )


@dataclass(frozen=True, slots=True)
class Listener:
    """An active webhook, as workers keep it in memory. `chatbot_ids`: None means all."""

    webhook_id: int
    events: frozenset[str]
    chatbot_ids: frozenset[int] | None

    def wants(self, event: Event) -> bool:
        of_its_bots = self.chatbot_ids is None or event.chatbot_id in self.chatbot_ids
        return event.name in self.events and of_its_bots


def listener_of(webhook: Webhook) -> Listener:
    chatbot_ids = frozenset(bot.pk for bot in webhook.chatbots.all()) if webhook.is_bound else None
    return Listener(webhook.pk, frozenset(webhook.events), chatbot_ids)


async def _read_listeners(_: str) -> tuple[Listener, ...]:
    active = Webhook.objects.filter(is_active=True).prefetch_related("chatbots")
    return tuple([listener_of(webhook) async for webhook in active])


_kept: Kept[tuple[Listener, ...]] = Kept(_read_listeners)


async def listeners() -> tuple[Listener, ...]:
    """All active webhooks; kept in memory, so that a server without any pays nothing for them."""
    return await _kept.get("") or ()


def tell(told: Iterable[tuple[Sequence[Listener], Event]]) -> None:
    """Write down who is to hear of what. Within the transaction of that: then both are there or neither."""
    deliveries: list[WebhookDelivery] = []
    for hearing, event in told:
        deliveries += deliveries_of(event, [listener.webhook_id for listener in hearing if listener.wants(event)])
    if deliveries:
        # What a worker keeps in memory may be a moment old, and a row for a webhook that is gone would undo all.
        active = set(Webhook.objects.filter(is_active=True).values_list("pk", flat=True))
        WebhookDelivery.objects.bulk_create(delivery for delivery in deliveries if delivery.webhook_id in active)


def deliveries_of(event: Event, webhook_ids: Sequence[int]) -> list[WebhookDelivery]:
    now, event_id = timezone.now(), uuid.uuid4()
    payload = event.payload(event_id, now) if webhook_ids else ""
    return [
        WebhookDelivery(
            webhook_id=webhook_id,
            event=event.name,
            event_id=event_id,
            payload=payload,
            conversation_id=event.conversation_id,
            chatbot_id=event.chatbot_id,
            visitor=event.visitor_key,
            created_at=now,
            due_at=now,
        )
        for webhook_id in webhook_ids
    ]
