"""Token quotas and their periods."""

import asyncio
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone

from chatbots.conversation.turn import follow_turn
from chatbots.guards import limits
from chatbots.guards.limits import LimitReached, period_of, reserve
from chatbots.models import TokenAllowance
from providers.base import Usage
from puffer.api.errors import ApiError
from tests.support.guests import allowance, guest, identified, refusal, turn, used


@pytest.mark.parametrize(
    ("fields", "visitor", "code", "message"),
    [
        ({"token_guest_limit": 0}, guest(), "token_limit_exceeded_guest_logic", "Access disabled for guests."),
        (
            {"token_user_limit": 0},
            identified(),
            "token_limit_exceeded_user_logic",
            "Access disabled for your account/role.",
        ),
        ({"token_guest_limit": 1}, guest(), "token_limit_exceeded_final_logic", "No more today."),
        ({"token_user_limit": 1}, identified(), "token_limit_exceeded_final_logic", "No more today."),
    ],
)
def test_an_exhausted_or_zero_quota_is_429_with_a_notice(limited, fields, visitor, code, message):
    bot = limited(**fields, token_limit_message="No more today.", token_reset_period="daily")
    if 0 not in fields.values():
        turn(bot, visitor, usage=1)
    error = refusal(bot, visitor)
    assert (error.status, error.code, error.message) == (429, code, message)
    assert error.quota_notice == {"type": "quota_notice", "message": message, "actions": []}


def test_guests_and_identified_visitors_have_separate_limits(limited):
    bot = limited(token_guest_limit=0)
    for _ in range(3):
        turn(bot, identified(), usage=1000)
    assert not TokenAllowance.objects.exists()


def test_the_last_answer_may_exceed_the_quota(limited):
    bot = limited(token_guest_limit=100)
    turn(bot, usage=99)
    turn(bot, usage=5000)
    assert used() == 5099
    refusal(bot)
    turn(bot, guest("another", "192.0.2.2"))


@pytest.mark.parametrize(
    ("instructions", "question", "max_completion_tokens", "tokens"),
    [("", "", 4000, 512), ("abcd", "efgh", 4000, 514), ("abc", "ef", 4000, 514), ("", "a", 100, 101)],
)
def test_an_estimate_is_reserved_while_the_turn_runs(limited, instructions, question, max_completion_tokens, tokens):
    bot = limited(
        token_guest_limit=1000, instructions=instructions, max_completion_tokens=max_completion_tokens
    )  # fmt: skip

    @async_to_sync
    async def read_reservation():
        async with reserve(bot, guest(), question) as reservation:
            held = (await sync_to_async(allowance)()).used
            reservation.settle(Usage(30, 10, 40))
        return held

    assert read_reservation() == tokens
    assert used() == 40


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 512 + (3 + 400 + 6) // 4 + 1),
        ({"max_messages": 1}, 512 + (3 + 6) // 4 + 1),  # only the last message is sent
        ({"vector_store_top_k": 2}, 512 + (3 + 400 + 6 + 2 * 1500) // 4 + 1),
        ({"vector_store_top_k": 20}, 512 + (3 + 400 + 6 + 24_000) // 4 + 1),  # what a prompt holds at most
    ],
)
def test_the_estimate_includes_history_and_passages(limited, fields, tokens):
    if "vector_store_top_k" in fields:
        fields |= {"enable_vector_store": True, "collections": ["kb"]}
    bot = limited(token_guest_limit=100_000, instructions="", **fields)
    history = [{"role": "user", "content": 400 * "a"}, {"role": "assistant", "content": "Hello!"}]

    @async_to_sync
    async def read_reservation():
        async with aclosing(follow_turn(bot, "Hi?", history=history, visitor=guest())) as events:
            await anext(events)
            return (await sync_to_async(allowance)()).used

    assert read_reservation() == tokens


def test_estimates_of_running_turns_count_against_the_quota(limited):
    bot = limited(token_guest_limit=600, instructions="")

    @async_to_sync
    async def three_at_once():
        async with reserve(bot, guest(), "?"), reserve(bot, guest(), "?"):
            with pytest.raises(LimitReached):
                async with reserve(bot, guest(), "?"):
                    pass

    three_at_once()
    assert used() == 0
    turn(bot)


@pytest.mark.parametrize("error", [ApiError("broken"), ValueError("broken"), asyncio.CancelledError()])
@pytest.mark.parametrize(("usage", "stays"), [(None, 0), (Usage(50, 20, 70), 70)])
def test_a_failed_turn_returns_its_unused_reservation(limited, error, usage, stays):
    bot = limited(token_guest_limit=1000)

    @async_to_sync
    async def fail():
        async with reserve(bot, guest(), "?") as reservation:
            reservation.settle(usage)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert used() == stays


@pytest.mark.parametrize("milliseconds", range(12))
def test_a_turn_is_settled_whenever_its_task_is_canceled(limited, milliseconds):
    """Cancel twice, also while the reservation itself is being written."""
    bot = limited(token_guest_limit=1000)
    turn(bot, usage=7)

    @async_to_sync
    async def cancel():
        async def work():
            async with reserve(bot, guest(), "?") as reservation:
                reservation.settle(Usage(70, 0, 70))
                await asyncio.sleep(5)  # canceled long before it ends

        task = asyncio.create_task(work())
        for _ in range(milliseconds):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await limits.finish()

    cancel()
    assert used() in (7, 77)


def test_the_remaining_quota_never_exceeds_the_limit(limited):
    """The owner resets the allowance while a turn is running."""
    bot = limited(token_guest_limit=1000)

    @async_to_sync
    async def reset_during_the_turn():
        async with reserve(bot, guest(), "?"):
            await TokenAllowance.objects.aupdate(used=0)

    reset_during_the_turn()
    assert used() == 0


@pytest.mark.parametrize(
    ("period", "today", "start", "end"),
    [
        ("daily", date(2026, 11, 25), (2026, 11, 25), (2026, 11, 26)),
        ("daily", date(2026, 12, 31), (2026, 12, 31), (2027, 1, 1)),
        ("weekly", date(2026, 11, 25), (2026, 11, 23), (2026, 11, 30)),  # a Wednesday
        ("weekly", date(2026, 11, 23), (2026, 11, 23), (2026, 11, 30)),  # a Monday
        ("weekly", date(2027, 1, 3), (2026, 12, 28), (2027, 1, 4)),  # a Sunday
        ("monthly", date(2026, 11, 30), (2026, 11, 1), (2026, 12, 1)),
        ("monthly", date(2026, 12, 1), (2026, 12, 1), (2027, 1, 1)),
        ("monthly", date(2028, 2, 29), (2028, 2, 1), (2028, 3, 1)),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Istanbul", "America/Los_Angeles"])
def test_periods_start_at_midnight_in_the_sites_time_zone(settings, zone, period, today, start, end):
    settings.TIME_ZONE = zone
    here = timezone.get_default_timezone()
    assert period_of(period, today) == (datetime(*start, tzinfo=here), datetime(*end, tzinfo=here))


def test_the_day_on_which_daylight_saving_time_ends_has_25_hours(settings):
    settings.TIME_ZONE = "Europe/Berlin"
    start, end = period_of("daily", date(2026, 10, 25))
    assert end.astimezone(UTC) - start.astimezone(UTC) == timedelta(hours=25)


def test_without_a_period_the_quota_is_never_reset(limited):
    bot = limited(token_guest_limit=100, token_reset_period="never")
    turn(bot, usage=100)
    error = refusal(bot)
    assert "Retry-After" not in error.headers
    assert allowance().period_start == limits.EPOCH


@pytest.mark.parametrize(("period", "days"), [("daily", 1), ("weekly", 7), ("monthly", 31)])
def test_the_quota_starts_at_zero_in_a_new_period(limited, period, days):
    bot = limited(token_guest_limit=100, token_reset_period=period)
    turn(bot, usage=100)
    assert 1 <= int(refusal(bot).headers["Retry-After"]) <= days * 24 * 60 * 60 + 60 * 60
    start = period_of(period, timezone.localdate())[0]
    assert allowance().period_start == start
    # One microsecond before this period starts is in the previous one.
    TokenAllowance.objects.update(period_start=start - timedelta(microseconds=1))
    turn(bot, usage=60)
    assert (used(), allowance().period_start) == (60, start)


def test_a_turn_that_ends_in_the_next_period_does_not_count_there(limited):
    bot = limited(token_guest_limit=1000, token_reset_period="daily")

    @async_to_sync
    async def turn_over_midnight():
        async with reserve(bot, guest(), "?") as reservation:
            tomorrow = timezone.now() + timedelta(days=1)
            await TokenAllowance.objects.aupdate(
                period_start=tomorrow, used=30
            )  # as the first turn after midnight does
            reservation.settle(Usage(500, 0, 500))

    turn_over_midnight()
    assert used() == 30


@pytest.mark.parametrize(("before", "after", "is_refused"), [("daily", "never", True), ("never", "daily", False)])
def test_a_longer_period_keeps_the_usage_and_a_shorter_one_resets_it(limited, before, after, is_refused):
    turn(limited(token_guest_limit=100, token_reset_period=before), usage=100)
    bot = limited(token_guest_limit=100, token_reset_period=after)
    if is_refused:
        refusal(bot)
        bot = limited(token_guest_limit=150, token_reset_period=after)
    turn(bot, usage=20)
    assert used() == (120 if is_refused else 20)
