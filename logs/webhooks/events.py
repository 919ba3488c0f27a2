"""What webhooks are told of: a row for each event and webhook, written in the transaction of what it tells.

a turn, a vote, ... -> Event -> publish(): rows for the webhooks that want it -> the worker sends them: webhooks.py
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from logs.webhooks.models import Webhook, WebhookDelivery
from puffer.runtime import LiveCache

SCHEMA_VERSION = "1"  # of the payload; raised when something in it is renamed or taken away


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
class Subscriber:
    """An active webhook, as workers keep it in memory. `chatbot_ids`: None means all."""

    webhook_id: int
    events: frozenset[str]
    chatbot_ids: frozenset[int] | None

    def wants(self, event: Event) -> bool:
        of_its_bots = self.chatbot_ids is None or event.chatbot_id in self.chatbot_ids
        return event.name in self.events and of_its_bots


def subscriber_of(webhook: Webhook) -> Subscriber:
    chatbot_ids = frozenset(bot.pk for bot in webhook.chatbots.all()) if webhook.is_bound else None
    return Subscriber(webhook.pk, frozenset(webhook.events), chatbot_ids)


async def _read_subscribers(_: str) -> tuple[Subscriber, ...]:
    active = Webhook.objects.filter(is_active=True).prefetch_related("chatbots")
    return tuple([subscriber_of(webhook) async for webhook in active])


_kept: LiveCache[tuple[Subscriber, ...]] = LiveCache(_read_subscribers)


async def active_subscribers() -> tuple[Subscriber, ...]:
    """All active webhooks; kept in memory, so that a server without any pays nothing for them."""
    return await _kept.get("") or ()


def publish(told: Iterable[tuple[Sequence[Subscriber], Event]]) -> None:
    """Write down who is to hear of what. Within the transaction of that: then both are there or neither."""
    deliveries: list[WebhookDelivery] = []
    for subscribers, event in told:
        deliveries += deliveries_of(
            event, [subscriber.webhook_id for subscriber in subscribers if subscriber.wants(event)]
        )
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
