"""Visitors of the widget in tests of limits, their turns and counts."""

import pytest
from asgiref.sync import async_to_sync

from chatbots.conversation.visitor import Identity, Visitor
from chatbots.guards import limits
from chatbots.guards.limits import LimitReached, reserve
from chatbots.models import TokenAllowance
from logs.models import Conversation
from providers.base import Usage

NO_LIMITS = {
    "messages_per_minute": None,
    "messages_per_minute_per_address": None,
    "messages_per_day": None,
    "tokens_per_day": None,
}


def guest(session_id="one", ip_address="192.0.2.1"):
    return Visitor(source=Conversation.Source.WIDGET, session_id=session_id, ip_address=ip_address)


def identified(user_id="7"):
    return Visitor(source=Conversation.Source.WIDGET, session_id="one", identity=Identity(user_id))


@async_to_sync
async def turn(bot, visitor=None, question="Shoes?", usage=None):
    async with reserve(bot, visitor or guest(), question) as reservation:
        if usage is not None:
            reservation.settle(Usage(usage, 0, usage))


def refusal(bot, visitor=None):
    with pytest.raises(LimitReached) as refused:
        turn(bot, visitor)
    return refused.value


def used():
    return allowance().used


def allowance():
    """Return the visitor's own: guests also use up that of their network."""
    return TokenAllowance.objects.exclude(visitor__startswith=limits.NETWORK_PREFIX).get()
