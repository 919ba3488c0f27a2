"""Limits of the widget: reserve a visitor's quota before a turn and settle it afterwards.

    reserve() -> one transaction: tokens and messages of the visitor, the network, the bot -> the turn -> the real usage

Callers of the API and users of the admin are not limited here. Each limit is one SQL statement that counts only while
the limit is not reached, which stays correct under concurrent workers. A refusal rolls the whole transaction back, so
that a refused message uses up nothing.
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
from django.utils.crypto import salted_hmac

from chatbots.conversation.visitor import Refusal, Visitor
from chatbots.guards.counters import MINUTE, count_within_limit
from chatbots.models import Chatbot, MessageCount, TokenAllowance
from chatbots.models.limits import LimitSettings
from chatbots.widget.events import publish_event
from logs.models import Conversation
from logs.usage import midnight
from logs.webhooks import EventName
from providers.base import Usage
from providers.tokens import tokens_of
from puffer.api import ApiError
from puffer.net import network_of
from puffer.runtime import Periodic

logger = logging.getLogger(__name__)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXPECTED_ANSWER = 512  # tokens, the estimate's upper bound: most answers are far shorter than the maximum length
ALL_VISITORS = "bot"  # the subject of daily limits; no key of a visitor or network equals it
NETWORK_PREFIX = "network:"
NETWORK_QUOTAS = 10  # guests' quotas per network: it is easy to become a new guest, but not to change the network

# A row of an earlier period is reset to 0 in the same statement. A row may also be of a period that began later, after
# the owner chose a longer one: then its tokens still count.
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
    """A limit that was reached: `limit` names the chatbot's field, `subject` the visitor or address that reached it.

    The widget shows `quota_notice` instead of an answer; it is None if waiting a moment is enough.
    """

    status = 429
    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        limit: str,
        subject: str,
        *,
        code: str | None = None,
        until: datetime | None = None,
        is_quota: bool = False,
    ) -> None:
        self.limit, self.subject, self.until = limit, subject, until
        headers = {}
        if until:
            headers["Retry-After"] = str(max(math.ceil((until - timezone.now()).total_seconds()), 1))
        super().__init__(message, code=code, headers=headers)
        if is_quota:
            self.quota_notice = {"type": "quota_notice", "message": self.message, "actions": []}


@dataclass
class Reservation:
    """The reserved quota of a running turn. A turn that ends without settle() has used nothing."""

    used: int = 0  # tokens

    def settle(self, usage: Usage | None) -> None:
        """Add the real usage of a call, also of an interrupted one. The sum is stored when the turn ends."""
        self.used += usage.total_tokens if usage else 0


@dataclass(frozen=True)
class ReservedTokens:
    """The estimated tokens of a running turn, included in the visitor's allowance until the real usage replaces them.

    After a crash the estimate stays until the period ends. It is about what the provider charges for that turn, so the
    owner's budget stays right, and the visitor loses one answer at most.
    """

    allowance: TokenAllowance
    estimate: int

    def replace_by(self, used: int) -> None:
        """Put the real usage in place of the estimate."""
        # If a new period has begun since, the estimate is not part of it and nothing needs replacing.
        row = TokenAllowance.objects.filter(pk=self.allowance.pk, period_start=self.allowance.period_start)
        row.update(used=Greatest(F("used") + used - self.estimate, 0))


@asynccontextmanager
async def reserve(
    bot: Chatbot, visitor: Visitor, question: str, context_characters: int = 0
) -> AsyncIterator[Reservation]:
    """Reserve a visitor's quota around a turn, which calls `reservation.settle(usage)` within.

    `context_characters` is how much history and knowledge the prompt will have.

    Raise LimitReached or ChatbotPaused before anything is spent. However the turn ends, also if its visitor leaves, the
    tokens it has used replace the reserved ones. A turn that raises Refusal gives back its message of the day.
    """
    reservation = Reservation()
    if visitor.source != Conversation.Source.WIDGET:
        yield reservation
        return
    if bot.is_paused:
        raise ChatbotPaused(bot.paused_message)
    tokens = estimate(bot, len(question) + context_characters)
    began = timezone.now()
    # When the task is cancelled, the transaction continues in its thread; its tokens must be given back as well.
    reserving = asyncio.ensure_future(sync_to_async(reserve_or_refuse)(bot, visitor, tokens, began))
    try:
        try:
            await asyncio.shield(reserving)
        except LimitReached as refusal:
            await finish_even_if_cancelled(publish_limit_reached(bot, visitor, refusal))
            raise
        try:
            yield reservation
        except Refusal:
            await finish_even_if_cancelled(sync_to_async(give_back_message)(bot, began))
            raise
    finally:
        await finish_even_if_cancelled(settle(reserving, reservation))


async def publish_limit_reached(bot: Chatbot, visitor: Visitor, refusal: LimitReached) -> None:
    """Publish the webhook event, once until the limit resets, or once a day. The turn's transaction is rolled back."""
    until = refusal.until or midnight(timezone.localdate(timezone=timezone.get_default_timezone()) + timedelta(days=1))
    data = {
        "limit": refusal.limit,
        "code": refusal.code,
        "resets_at": refusal.until.isoformat() if refusal.until else None,
    }
    once = f"{refusal.limit} {refusal.subject}"
    await publish_event(bot, visitor, EventName.LIMIT_REACHED, data, once=once, until=int(until.timestamp()))


def estimate(bot: Chatbot, characters: int) -> int:
    """Estimate the tokens of a turn whose prompt has this many characters in addition to the instructions."""
    return tokens_of(len(bot.instructions) + characters) + min(bot.max_completion_tokens, EXPECTED_ANSWER)


async def settle(reserving: "asyncio.Future[list[ReservedTokens]]", reservation: Reservation) -> None:
    try:
        reserved = await reserving
    except Exception:
        return  # the turn was refused, and reserve() has raised the error
    if not reserved:
        return
    try:
        await sync_to_async(replace_estimates)(reserved, reservation.used)
    except DatabaseError:
        logger.exception("usage of a turn could not be stored: its estimate of %d tokens stays", reserved[0].estimate)


def replace_estimates(reserved: list[ReservedTokens], used: int) -> None:
    for tokens in reserved:
        tokens.replace_by(used)


_unfinished: set["asyncio.Task[None]"] = set()  # asyncio itself keeps only weak references to tasks


async def finish_even_if_cancelled(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work`, which continues if the waiting task is cancelled."""
    task = asyncio.create_task(work)
    _unfinished.add(task)
    task.add_done_callback(_unfinished.discard)
    await asyncio.shield(task)


async def finish() -> None:
    """Wait for the reservations that are being settled. One of settings.AT_SHUTDOWN."""
    await asyncio.gather(*_unfinished)


def reserve_or_refuse(bot: Chatbot, visitor: Visitor, tokens: int, now: datetime) -> list[ReservedTokens]:
    """Count the message and reserve the tokens in one transaction."""
    try:
        with transaction.atomic():
            # All workers lock rows in the same order, so no deadlock, and the shared rows last, so only briefly.
            reserved = reserve_tokens(bot, visitor, tokens, now)
            count_message(bot, visitor, now)
            reserved += reserve_daily_tokens(bot, tokens, now)
    except IntegrityError:  # the in-process cache can hold a chatbot for a moment after it was deleted
        raise ApiError("There is no such chatbot.", status=404, code="rest_aipkit_bot_not_found") from None
    sweep_if_due()
    return reserved


# Tokens


def reserve_tokens(bot: Chatbot, visitor: Visitor, tokens: int, now: datetime) -> list[ReservedTokens]:
    """Reserve tokens of the visitor's quota, and for a guest also of their network's. Raise LimitReached."""
    name = "token_user_limit" if visitor.identity else "token_guest_limit"
    limit = getattr(bot, name)
    if limit is None:
        return []
    if limit == 0:
        message = "Access disabled for your account/role." if visitor.identity else "Access disabled for guests."
        code = "token_limit_exceeded_user_logic" if visitor.identity else "token_limit_exceeded_guest_logic"
        raise LimitReached(message, name, visitor.key, code=code, is_quota=True)
    quotas = {visitor.key: limit}
    if not visitor.identity and (network := network_key(network_of(visitor.ip_address))):
        quotas[network] = NETWORK_QUOTAS * limit
    start, end = period_of(bot.token_reset_period, timezone.localdate(now, timezone.get_default_timezone()))
    reserved = []
    for subject, quota in quotas.items():
        if (allowance := add_tokens(bot, subject, start, tokens, quota)) is None:
            code = "token_limit_exceeded_final_logic"
            raise LimitReached(bot.token_limit_message, name, subject, code=code, until=end, is_quota=True)
        reserved.append(ReservedTokens(allowance, tokens))
    return reserved


def reserve_daily_tokens(bot: Chatbot, tokens: int, now: datetime) -> list[ReservedTokens]:
    """Reserve tokens of the daily limit of all visitors together. Raise LimitReached."""
    if bot.tokens_per_day is None:
        return []
    start, end = period_of(LimitSettings.ResetPeriod.DAILY, timezone.localdate(now, timezone.get_default_timezone()))
    if (allowance := add_tokens(bot, ALL_VISITORS, start, tokens, bot.tokens_per_day)) is None:
        raise LimitReached(bot.rate_limit_message, "tokens_per_day", ALL_VISITORS, until=end)
    return [ReservedTokens(allowance, tokens)]


def add_tokens(bot: Chatbot, subject: str, start: datetime, tokens: int, limit: int) -> TokenAllowance | None:
    """Add tokens to what the subject has used since `start`; return None, and add nothing, if `limit` is reached."""
    begins = connection.ops.adapt_datetimefield_value(start)
    return next(iter(TokenAllowance.objects.raw(RESERVE_TOKENS, [bot.pk, subject, begins, tokens, limit])), None)


def network_key(network: str) -> str:
    """Return the key of a network: a keyed hash, because a quota can outlast the log's addresses. "" stays ""."""
    return NETWORK_PREFIX + salted_hmac("chatbots.guards.limits", network).hexdigest() if network else ""


def period_of(period: str, today: date) -> tuple[datetime, datetime | None]:
    """Return the period's start and end (None: never ends), at midnight in the site's time zone."""
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


# Messages


def count_message(bot: Chatbot, visitor: Visitor, now: datetime) -> None:
    """Count the message per minute of its visitor and address, and per day of the bot. Raise LimitReached."""
    minute = int(now.timestamp()) // MINUTE * MINUTE
    minute_end = datetime.fromtimestamp(minute + MINUTE, tz=now.tzinfo)
    today = timezone.localdate(now, timezone.get_default_timezone())
    limits = [
        ("messages_per_minute", visitor.key, minute, minute_end),
        ("messages_per_minute_per_address", network_of(visitor.ip_address), minute, minute_end),
        ("messages_per_day", ALL_VISITORS, day_of(now), midnight(today + timedelta(days=1))),
    ]
    for name, subject, window, end in limits:
        limit = getattr(bot, name)
        if limit is not None and subject and not count_within_limit(bot.pk, subject, window, limit):
            raise LimitReached(bot.rate_limit_message, name, subject, until=end)


def day_of(now: datetime) -> int:
    """Return when the day's window began, in Unix seconds."""
    return int(midnight(timezone.localdate(now, timezone.get_default_timezone())).timestamp())


def give_back_message(bot: Chatbot, counted_at: datetime) -> None:
    """Subtract a refused message from the daily count. The visitor's own counts stay: they limit what refusals cost."""
    if bot.messages_per_day is None:
        return
    day = MessageCount.objects.filter(chatbot_id=bot.pk, subject=ALL_VISITORS, window=day_of(counted_at))
    try:
        day.filter(count__gt=0).update(count=F("count") - 1)
    except DatabaseError:
        logger.exception("a refused message could not be given back")


# Deletion of old counts

_sweep = Periodic(every_seconds=60)


def sweep_if_due() -> None:
    """Delete old counts if none were deleted in the last interval, so that no scheduler is needed.

    Call it after the turn's transaction, so that it holds none of its locks. The index on `window` keeps it cheap.
    """
    if not _sweep.is_due():
        return
    _sweep.restart()
    try:
        sweep(int(time.time()))
    except DatabaseError:
        logger.warning("old message counts could not be deleted; the next sweep tries again", exc_info=True)


def sweep(now: int) -> None:
    """Delete the counts of past windows, with a margin for workers whose clocks differ."""
    last_minute, last_day = now - 5 * MINUTE, now - int(timedelta(days=2).total_seconds())
    over = Q(window__lt=last_minute) & ~Q(subject=ALL_VISITORS) | Q(window__lt=last_day)
    MessageCount.objects.filter(over).delete()
