"""May this turn happen? Visitors of the widget are held to the limits of their chatbot; nobody else is.

    reserve -> one transaction: tokens; messages of the visitor, of the address, of the bot -> the turn -> one update

Each limit is one statement that counts only while there is room, so that no crowd of workers gets past it. A refusal
undoes the whole transaction: a message that was refused has used up nothing.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest
from django.utils import timezone

from chatbots.conversation.visitor import Refusal, Visitor
from chatbots.guards.counters import MINUTE, has_room, network_of
from chatbots.models import Chatbot, MessageCount, TokenAllowance
from chatbots.models.limits import LimitSettings
from chatbots.widget.events import announce
from logs.models import Conversation
from logs.usage import midnight
from logs.webhooks import EventName
from providers.base import Usage
from providers.token_estimate import tokens_of
from puffer.api import ApiError
from puffer.runtime import Periodic

logger = logging.getLogger(__name__)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXPECTED_ANSWER = 512  # tokens at most: what an answer may be long at most says little of how long it will be
OF_THE_BOT = "bot"  # in MessageCount.counted, where visitors and addresses have a prefix

# A row of an earlier period starts anew, at once for all that try. A row of a later one is no mistake: the owner has
# chosen a longer period since, and what was used still counts.
RESERVE_TOKENS = """
    INSERT INTO chatbots_tokenallowance AS held (chatbot_id, visitor, period_start, used) VALUES (%s, %s, %s, %s)
    ON CONFLICT (chatbot_id, visitor) DO UPDATE SET
        used = CASE WHEN held.period_start < excluded.period_start THEN 0 ELSE held.used END + excluded.used,
        period_start =
            CASE WHEN held.period_start < excluded.period_start THEN excluded.period_start ELSE held.period_start END
    WHERE held.period_start < excluded.period_start OR held.used < %s
    RETURNING *
"""


class ChatbotPaused(Refusal):
    status = 403
    code = "chatbot_paused"


class LimitReached(Refusal):
    """`quota_notice` is what the widget shows instead of an answer; None where waiting a moment helps.

    `limit` is the field of the chatbot that says how much, `counted` whose use has come to that.
    """

    status = 429
    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        limit: str,
        counted: str,
        *,
        code: str | None = None,
        until: datetime | None = None,
        is_quota: bool = False,
    ) -> None:
        self.limit, self.counted, self.until = limit, counted, until
        headers = {}
        if until:
            headers["Retry-After"] = str(max(math.ceil((until - timezone.now()).total_seconds()), 1))
        super().__init__(message, code=code, headers=headers)
        if is_quota:
            self.quota_notice = {"type": "quota_notice", "message": self.message, "actions": []}


@dataclass
class Reservation:
    """Of a running turn. A turn that ends without settle() has used nothing."""

    usage: Usage | None = None

    def settle(self, usage: Usage | None) -> None:
        """Note what the turn really used, also of an answer that was broken off; written when the turn ends."""
        self.usage = usage


@dataclass(frozen=True)
class HeldTokens:
    """An estimate within what a visitor has used, to be replaced by the truth.

    A crash leaves it there until the period ends, for ever where there is none: it is about what the provider will ask
    for the turn that was under way, so the owner's budget is right and one visitor is short of one answer.
    """

    allowance: TokenAllowance
    estimate: int

    def replace_by(self, used: int) -> None:
        # In a period that has begun since, the estimate isn't counted: nothing is to be replaced then.
        row = TokenAllowance.objects.filter(pk=self.allowance.pk, period_start=self.allowance.period_start)
        row.update(used=Greatest(F("used") + used - self.estimate, 0))


@asynccontextmanager
async def reserve(bot: Chatbot, visitor: Visitor, question: str) -> AsyncIterator[Reservation]:
    """Around a turn: `reservation.settle(usage)` within. Raises LimitReached or ChatbotPaused before anything is spent.

    However the turn ends, also if its visitor leaves, the reserved tokens are replaced by those it has used.
    """
    reservation = Reservation()
    if visitor.source != Conversation.Source.WIDGET:
        yield reservation
        return
    if bot.is_paused:
        raise ChatbotPaused(bot.paused_message)
    # A transaction goes on in its thread when its task is cancelled, and what it reserves must be given back too.
    taking = asyncio.ensure_future(sync_to_async(take)(bot, visitor, estimate(bot, question)))
    try:
        try:
            await asyncio.shield(taking)
        except LimitReached as refusal:
            await undisturbed(announce_limit(bot, visitor, refusal))
            raise
        yield reservation
    finally:
        await undisturbed(settle(taking, reservation))


async def announce_limit(bot: Chatbot, visitor: Visitor, refusal: LimitReached) -> None:
    """Once in the time for which it holds, or in a day; not in the transaction of the turn, which was undone."""
    until = refusal.until or midnight(timezone.localdate(timezone=timezone.get_default_timezone()) + timedelta(days=1))
    data = {
        "limit": refusal.limit,
        "code": refusal.code,
        "resets_at": refusal.until.isoformat() if refusal.until else None,
    }
    once = f"{refusal.limit} {refusal.counted}"
    await announce(bot, visitor, EventName.LIMIT_REACHED, data, once=once, until=int(until.timestamp()))


def estimate(bot: Chatbot, question: str) -> int:
    """How many tokens the turn will use, roughly."""
    characters = len(bot.instructions) + len(question)
    return tokens_of(characters) + min(bot.max_completion_tokens, EXPECTED_ANSWER)


async def settle(taking: "asyncio.Future[HeldTokens | None]", reservation: Reservation) -> None:
    try:
        held = await taking
    except Exception:
        return  # the turn was refused, and reserve() has raised it
    if held is None:
        return
    used = reservation.usage.total_tokens if reservation.usage else 0
    try:
        await sync_to_async(held.replace_by)(used)
    except DatabaseError:
        logger.exception("what a turn has used is not written down: its estimate of %d tokens stays", held.estimate)


_settling: set["asyncio.Task[None]"] = set()  # the loop itself keeps only weak references


async def undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Wait for it, and let it go on if the waiting task is cancelled."""
    task = asyncio.create_task(work)
    _settling.add(task)
    task.add_done_callback(_settling.discard)
    await asyncio.shield(task)


async def finish() -> None:
    """Wait for what is being settled: the process may end right after."""
    await asyncio.gather(*_settling)


def take(bot: Chatbot, visitor: Visitor, tokens: int) -> HeldTokens | None:
    """Count the message and reserve the tokens, all or nothing; None where there is no quota."""
    now = timezone.now()
    try:
        with transaction.atomic():
            # In one order for all, so that no two wait for each other, and what many share last: it is locked briefly.
            held = reserve_tokens(bot, visitor, tokens, now)
            count_message(bot, visitor, now)
    except IntegrityError:  # a worker may know a chatbot for a moment after it was deleted
        raise ApiError("There is no such chatbot.", status=404, code="rest_aipkit_bot_not_found") from None
    sweep_now_and_then()
    return held


# Tokens


def reserve_tokens(bot: Chatbot, visitor: Visitor, tokens: int, now: datetime) -> HeldTokens | None:
    name = "token_user_limit" if visitor.identity else "token_guest_limit"
    limit = getattr(bot, name)
    if limit is None:
        return None
    if limit == 0:
        message = "Access disabled for your account/role." if visitor.identity else "Access disabled for guests."
        code = "token_limit_exceeded_user_logic" if visitor.identity else "token_limit_exceeded_guest_logic"
        raise LimitReached(message, name, visitor.key, code=code, is_quota=True)
    start, end = period_of(bot.token_reset_period, timezone.localdate(now, timezone.get_default_timezone()))
    begins = connection.ops.adapt_datetimefield_value(start)
    allowances = list(TokenAllowance.objects.raw(RESERVE_TOKENS, [bot.pk, visitor.key, begins, tokens, limit]))
    if not allowances:
        code = "token_limit_exceeded_final_logic"
        raise LimitReached(bot.token_limit_message, name, visitor.key, code=code, until=end, is_quota=True)
    return HeldTokens(allowances[0], tokens)


def period_of(period: str, today: date) -> tuple[datetime, datetime | None]:
    """When the period that holds the day began and when it ends: at midnight in the site's time zone."""
    if period == LimitSettings.ResetPeriod.DAILY:
        first, following = today, today + timedelta(days=1)
    elif period == LimitSettings.ResetPeriod.WEEKLY:
        first = today - timedelta(days=today.weekday())  # a Monday
        following = first + timedelta(days=7)
    elif period == LimitSettings.ResetPeriod.MONTHLY:
        first = today.replace(day=1)
        following = (first + timedelta(days=31)).replace(day=1)
    else:
        return EPOCH, None
    return midnight(first), midnight(following)


# Messages: a minute of one visitor, a minute of one address, a day of all visitors of the bot


def count_message(bot: Chatbot, visitor: Visitor, now: datetime) -> None:
    minute = int(now.timestamp()) // MINUTE * MINUTE
    minute_end = datetime.fromtimestamp(minute + MINUTE, tz=now.tzinfo)
    today = timezone.localdate(now, timezone.get_default_timezone())
    day = int(midnight(today).timestamp())
    limits = [
        ("messages_per_minute", visitor.key, minute, minute_end),
        ("messages_per_minute_per_address", network_of(visitor.ip_address), minute, minute_end),
        ("messages_per_day", OF_THE_BOT, day, midnight(today + timedelta(days=1))),
    ]
    for name, counted, window, end in limits:
        limit = getattr(bot, name)
        if limit is not None and counted and not has_room(bot.pk, counted, window, limit):
            raise LimitReached(bot.rate_limit_message, name, counted, until=end)


# Counts of windows that are over

_sweep = Periodic(every_seconds=60)


def sweep_now_and_then() -> None:
    """Some turns of each worker remove what is old: without a scheduler, and by the index on `window` it is cheap.

    After the turn's own transaction, which then holds no further lock.
    """
    if not _sweep.is_due():
        return
    _sweep.restart()
    try:
        sweep(int(time.time()))
    except DatabaseError:
        logger.warning("old message counts are not removed; the next sweep will do it", exc_info=True)


def sweep(now: int) -> None:
    """With a margin for workers whose clocks differ."""
    last_minute, last_day = now - 5 * MINUTE, now - int(timedelta(days=2).total_seconds())
    over = Q(window__lt=last_minute) & ~Q(counted=OF_THE_BOT) | Q(window__lt=last_day)
    MessageCount.objects.filter(over).delete()
