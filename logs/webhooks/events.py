"""Events for webhooks: a row per event and webhook, written in the same transaction as the change they report.

a turn, a rating, ... -> Event -> publish(): rows for the webhooks that subscribe to it -> the worker: delivery.py
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from logs.webhooks.models import Webhook, WebhookDelivery
from puffer.runtime import LiveCache, database_now

SCHEMA_VERSION = "1"  # of the payload; raised when a key is renamed or removed


@dataclass(frozen=True, slots=True)
class Event:
    """An event in a chat. `data` depends on the name; `visitor_key` is for finding the events of a person."""

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
        """Return the payload as ASCII JSON, so that receivers decode it to the same bytes that were signed."""
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
    """An active webhook, as workers keep it in memory; `chatbot_ids` is None for all."""

    webhook_id: int
    events: frozenset[str]
    chatbot_ids: frozenset[int] | None

    def wants(self, event: Event) -> bool:
        return event.name in self.events and (self.chatbot_ids is None or event.chatbot_id in self.chatbot_ids)


def subscriber_of(webhook: Webhook) -> Subscriber:
    chatbot_ids = frozenset(bot.pk for bot in webhook.chatbots.all()) if webhook.is_bound else None
    return Subscriber(webhook.pk, frozenset(webhook.events), chatbot_ids)


async def _read_subscribers(_: str) -> tuple[Subscriber, ...]:
    active = Webhook.objects.filter(is_active=True).prefetch_related("chatbots")
    return tuple([subscriber_of(webhook) async for webhook in active])


_subscribers: LiveCache[tuple[Subscriber, ...]] = LiveCache(_read_subscribers)


async def active_subscribers() -> tuple[Subscriber, ...]:
    """Return all active webhooks from memory, so that a server without webhooks makes no queries for them."""
    return await _subscribers.get("") or ()


def publish(events: Iterable[tuple[Sequence[Subscriber], Event]]) -> None:
    """Write a delivery for each subscriber that wants its event.

    Call it in the transaction that writes the change that the event reports, so that both are stored or neither.
    """
    deliveries: list[WebhookDelivery] = []
    for subscribers, event in events:
        deliveries += deliveries_of(
            event, [subscriber.webhook_id for subscriber in subscribers if subscriber.wants(event)]
        )
    if deliveries:
        # Subscribers in memory may be outdated: a row for a deleted webhook would roll back the whole transaction.
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
            due_at=database_now(),  # by the clock of the database, as leases are
        )
        for webhook_id in webhook_ids
    ]
