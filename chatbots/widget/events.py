"""Webhook events of the widget that leave no row in the log: a session started, a limit was reached.

Visitors can cause both at will, so each address can cause a limited number of events per minute.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, transaction

from chatbots.conversation.visitor import Visitor
from chatbots.guards.counters import MINUTE, count_within_limit
from chatbots.models import Chatbot
from logs.conversations import event_about
from logs.webhooks import Event, EventName, Subscriber, active_subscribers, publish
from puffer.net import network_of

EVENTS_PER_MINUTE = 60  # of one chatbot and address
EVENT_PREFIX = "event "  # of a MessageCount.subject that counts events

logger = logging.getLogger(__name__)


async def publish_event(
    bot: Chatbot, visitor: Visitor, name: EventName, data: dict[str, Any], *, once: str = "", until: int = 0
) -> None:
    """Queue an event for the webhooks that subscribe to it; with `once`, only one such event before `until`.

    Failures are only logged, because they do not concern the visitor.
    """
    event = event_about(visitor.turn(bot.pk), name, data)
    subscribers = [subscriber for subscriber in await active_subscribers() if subscriber.wants(event)]
    if not subscribers:
        return
    try:
        await sync_to_async(queue_event)(bot, visitor, subscribers, event, once, until)
    except DatabaseError:
        logger.exception("webhook event %s could not be queued", name)


@transaction.atomic
def queue_event(
    bot: Chatbot, visitor: Visitor, subscribers: Sequence[Subscriber], event: Event, once: str, until: int
) -> None:
    # limits.sweep() deletes a count when its window is over, so a window named by its end lasts until then.
    if once and not count_within_limit(bot.pk, EVENT_PREFIX + hashlib.sha256(once.encode()).hexdigest(), until, 1):
        return
    minute = int(time.time()) // MINUTE * MINUTE
    if count_within_limit(bot.pk, EVENT_PREFIX + network_of(visitor.ip_address), minute, EVENTS_PER_MINUTE):
        publish([(subscribers, event)])
