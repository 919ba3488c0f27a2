"""Telling webhooks of what leaves no other row behind: a visitor comes, a limit is reached.

Strangers can cause both at will, so there is a limit for telling, too.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, transaction

from chatbots.conversation.visitor import Visitor
from chatbots.guards.counters import MINUTE, has_room, network_of
from chatbots.models import Chatbot
from logs.conversations import event_about
from logs.webhooks import Event, EventName, Subscriber, active_subscribers, publish

TOLD_PER_MINUTE = 60  # of one chatbot and address
TOLD = "told "  # before whom it is about, in MessageCount.counted

logger = logging.getLogger(__name__)


async def announce(
    bot: Chatbot, visitor: Visitor, name: EventName, data: dict[str, Any], *, once: str = "", until: int = 0
) -> None:
    """Write it down for the webhooks that want it; what is to be told `once` is not told again before `until`.

    A failure is for the log: the visitor has nothing to do with it.
    """
    event = event_about(visitor.turn(bot.pk), name, data)
    subscribers = [subscriber for subscriber in await active_subscribers() if subscriber.wants(event)]
    if not subscribers:
        return
    try:
        await sync_to_async(write)(bot, visitor, subscribers, event, once, until)
    except DatabaseError:
        logger.exception("webhooks are not told of %s", name)


@transaction.atomic
def write(
    bot: Chatbot, visitor: Visitor, subscribers: Sequence[Subscriber], event: Event, once: str, until: int
) -> None:
    # A window that is named by its end stays until then: limits.sweep() removes what is over.
    if once and not has_room(bot.pk, TOLD + hashlib.sha256(once.encode()).hexdigest(), until, 1):
        return
    minute = int(time.time()) // MINUTE * MINUTE
    if has_room(bot.pk, TOLD + network_of(visitor.ip_address), minute, TOLD_PER_MINUTE):
        publish([(subscribers, event)])
