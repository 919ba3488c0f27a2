"""Rate limits and token quotas of the widget's visitors, in one process and in many at once."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone

from chatbots.conversation.turn import follow_turn
from chatbots.conversation.visitor import Identity, Visitor
from chatbots.guards import leftovers, limits
from chatbots.guards.limits import ChatbotPaused, LimitReached, period_of, reserve
from chatbots.models import Chatbot, MessageCount, TokenAllowance
from logs.models import Conversation
from providers.base import Usage
from puffer.api.errors import ApiError
from tests.support.repository import ROOT

NO_LIMITS = {
    "messages_per_minute": None,
    "messages_per_minute_per_address": None,
    "messages_per_day": None,
    "tokens_per_day": None,
}


def guest(session_id="one", ip_address="192.0.2.1"):
    return Visitor(source=Conversation.Source.WIDGET, session_id=session_id, ip_address=ip_address)


GUEST_KEY = guest().key


def identified(user_id="7"):
    return Visitor(source=Conversation.Source.WIDGET, session_id="one", identity=Identity(user_id))


@pytest.fixture
def limited(bot):
    """Return a function that saves the bot with the given limits and no others."""

    def limit(**limits):
        for name, value in (NO_LIMITS | limits).items():
            setattr(bot, name, value)
        bot.save()
        return bot

    return limit


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


def counts():
    return sorted(MessageCount.objects.values_list("subject", "count"))


# Which turns are limited


@pytest.mark.parametrize("source", [Conversation.Source.API, Conversation.Source.PREVIEW])
def test_only_visitors_of_the_widget_are_limited(limited, source):
    bot = limited(is_paused=True, messages_per_minute=1, token_guest_limit=0)
    for _ in range(3):
        turn(bot, Visitor(source=source))
    assert not MessageCount.objects.exists()


def test_a_bot_without_limits_writes_no_counters(limited):
    turn(limited(), usage=5)
    assert not MessageCount.objects.exists()
    assert not TokenAllowance.objects.exists()


def test_a_paused_bot_refuses_with_its_message(limited):
    with pytest.raises(ChatbotPaused) as paused:
        turn(limited(is_paused=True, paused_message="Back on Monday.", messages_per_minute=1))
    assert (paused.value.status, paused.value.code) == (403, "chatbot_paused")
    assert paused.value.message == "Back on Monday."
    assert not MessageCount.objects.exists()


# Messages


@pytest.mark.parametrize(
    ("limit", "allowed", "refused_too", "not_refused"),
    [
        ("messages_per_minute", guest(), guest(ip_address="192.0.2.2"), guest("two")),
        ("messages_per_minute", identified(), identified(), identified("8")),
        ("messages_per_minute_per_address", guest(), guest("two"), guest(ip_address="192.0.2.2")),
        ("messages_per_day", guest(), guest("two", "192.0.2.2"), None),
    ],
)
def test_messages_beyond_a_limit_are_refused(limited, limit, allowed, refused_too, not_refused):
    bot = limited(**{limit: 2}, rate_limit_message="Slowly, please.")
    turn(bot, allowed)
    turn(bot, allowed)
    for visitor in (allowed, refused_too):
        error = refusal(bot, visitor)
        assert (error.status, error.code, error.message) == (429, "rate_limit_exceeded", "Slowly, please.")
        assert error.quota_notice is None
        assert 1 <= int(error.headers["Retry-After"]) <= (60 if "minute" in limit else 24 * 60 * 60)
    if not_refused:
        turn(bot, not_refused)


def test_a_new_session_for_each_message_is_no_new_quota(limited):
    """A guest costs nothing, so all guests of a network have ten quotas together."""
    bot = limited(token_guest_limit=100)
    for number in range(10):
        turn(bot, guest(f"session-{number}", "2001:db8::1"), usage=100)
    error = refusal(bot, guest("session-11", "2001:db8::ffff:2"))
    assert (error.limit, error.code) == ("token_guest_limit", "token_limit_exceeded_final_logic")
    assert error.quota_notice
    turn(bot, guest("session-11", "2001:db8:0:1::1"))
    Chatbot.objects.filter(pk=bot.pk).update(token_user_limit=100)
    turn(bot, Visitor(source=Conversation.Source.WIDGET, ip_address="2001:db8::1", identity=Identity("7")))
    assert not TokenAllowance.objects.filter(visitor__contains="2001").exists()


def test_all_visitors_together_may_use_so_many_tokens_a_day(limited):
    bot = limited(tokens_per_day=1000, rate_limit_message="Come back tomorrow.")
    turn(bot, guest("one", "192.0.2.1"), usage=600)
    turn(bot, guest("two", "192.0.2.2"), usage=600)
    for visitor in (guest("three", "192.0.2.3"), identified()):
        error = refusal(bot, visitor)
        assert (error.status, error.limit, error.message) == (429, "tokens_per_day", "Come back tomorrow.")
        assert 1 <= int(error.headers["Retry-After"]) <= 24 * 60 * 60
    assert counts() == []  # and what is refused counts as no message
    TokenAllowance.objects.update(period_start=timezone.now() - timedelta(days=2))
    turn(bot, guest())


def test_quotas_of_the_past_are_deleted(limited):
    bot = limited(token_guest_limit=1000, tokens_per_day=1000, token_reset_period="daily")
    forever = Chatbot.objects.create(name="Forever", token_guest_limit=1000)
    for number in range(3):
        turn(bot, guest(f"session-{number}"))
    turn(forever)
    while leftovers.run_due():
        pass
    assert TokenAllowance.objects.count() == 3 + 1 + 1 + 2
    TokenAllowance.objects.filter(chatbot=bot).update(period_start=timezone.now() - timedelta(days=2))
    leftovers._cleaning.__init__(every_seconds=3600)
    while leftovers.run_due():
        pass
    assert set(TokenAllowance.objects.values_list("chatbot", flat=True)) == {forever.pk}


@pytest.mark.parametrize(
    ("address", "other", "share_a_limit"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),  # taken as IPv6, both would be in the same /64
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("2001:db8::1", "2001:0DB8:0:0::1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", False),  # unknown addresses do not share a limit
    ],
)
def test_addresses_are_counted_per_ipv4_address_or_ipv6_64_network(limited, address, other, share_a_limit):
    bot = limited(messages_per_minute_per_address=1)
    turn(bot, guest("one", address))
    if share_a_limit:
        refusal(bot, guest("two", other))
    else:
        turn(bot, guest("two", other))


def test_each_bot_has_its_own_counters(limited):
    other = Chatbot.objects.create(name="Other", messages_per_minute=1)
    turn(limited(messages_per_minute=1))
    turn(other)
    refusal(other)


def test_counters_start_at_zero_in_a_new_minute_and_day(limited):
    bot = limited(messages_per_minute=1, messages_per_day=1)
    turn(bot)
    refusal(bot)
    for count in MessageCount.objects.all():
        count.window -= 24 * 60 * 60
        count.save()
    turn(bot)


def test_a_refused_turn_changes_no_counter(limited):
    bot = limited(messages_per_minute=5, messages_per_minute_per_address=5, messages_per_day=1, token_guest_limit=9000)
    turn(bot, usage=100)
    before = counts()
    assert before == [("address:192.0.2.1", 1), ("bot", 1), (GUEST_KEY, 1)]
    for _ in range(3):
        refusal(bot)
    assert (counts(), used()) == (before, 100)


@pytest.mark.django_db(transaction=True)
def test_a_bot_that_was_just_deleted_is_404(limited):
    bot = limited(messages_per_minute=1, token_guest_limit=100)
    Chatbot.objects.filter(pk=bot.pk).delete()
    with pytest.raises(ApiError) as error:
        turn(bot)
    assert (error.value.status, error.value.code) == (404, "rest_aipkit_bot_not_found")


def test_only_expired_counters_are_deleted(bot):
    now = 1_800_000_000
    rows = {("guest:now", now): True, ("guest:old", now - 600): False, ("address:old", now - 600): False}
    rows |= {("bot", now - 24 * 60 * 60): True, ("bot", now - 3 * 24 * 60 * 60): False}
    for subject, window in rows:
        MessageCount.objects.create(chatbot=bot, subject=subject, window=window, count=1)
    limits.sweep(now)
    remaining = set(MessageCount.objects.values_list("subject", "window"))
    assert remaining == {row for row, stays in rows.items() if stays}


# Tokens


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
            return (await TokenAllowance.objects.aget()).used

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


# Periods


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


# Many processes at once

CONCURRENT_TURNS = """
import asyncio, json, os, sys
import django
django.setup()
from django.db import connections
from chatbots.guards.limits import LimitReached, reserve
from chatbots.models import Chatbot, MessageCount, TokenAllowance
from chatbots.conversation.visitor import Visitor
from logs.models import Conversation

fields = json.loads(sys.argv[1])
bot = Chatbot.objects.create(name="Crowd", instructions="", **fields)
MessageCount.objects.create(chatbot=bot, subject="guest:old", window=0, count=3)  # expired: the first turn deletes it
connections.close_all()


async def turns():
    async def one():
        visitor = Visitor(source=Conversation.Source.WIDGET, session_id="one", ip_address="192.0.2.1")
        try:
            async with reserve(bot, visitor, "?"):
                outcomes.append("passed")
                await everybody_has_tried.wait()
        except LimitReached:
            outcomes.append("refused")

    outcomes, everybody_has_tried = [], asyncio.Event()
    running = asyncio.gather(*(one() for _ in range(10)))
    while len(outcomes) < 10:
        await asyncio.sleep(0.01)
    os.write(trying, b".")
    await asyncio.to_thread(os.read, leave, 1)
    everybody_has_tried.set()
    await running
    return outcomes.count("passed"), outcomes.count("refused")


start, go = os.pipe()
tried, trying = os.pipe()
leave, let_leave = os.pipe()
results, result = os.pipe()
children = []
for _ in range(8):
    if child := os.fork():
        children.append(child)
        continue
    os.close(go)
    os.close(let_leave)
    os.read(start, 1)  # blocks until the parent closes `go`, for all children at once
    os.write(result, (json.dumps(asyncio.run(turns())) + "\\n").encode())
    connections.close_all()
    os._exit(0)
os.close(go)
os.close(result)
for _ in range(8):
    os.read(tried, 1)
os.close(let_leave)
for child in children:
    os.waitpid(child, 0)
outcomes = [json.loads(line) for line in open(results)]
print(json.dumps({
    "processes": len(outcomes),
    "passed": sum(passed for passed, _ in outcomes),
    "refused": sum(refused for _, refused in outcomes),
    "counts": sorted(MessageCount.objects.values_list("subject", "count")),
    "used": sum(TokenAllowance.objects.values_list("used", flat=True)),
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"messages_per_minute": 10},
        {"messages_per_minute_per_address": 10},
        {"messages_per_day": 10},
        {"token_guest_limit": 10 * 513, "token_reset_period": "monthly"},  # 513: the estimate for one turn
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_eight_processes_together_do_not_exceed_the_limit(database_url, fields):
    environment = os.environ | {"DATABASE_URL": database_url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    run = subprocess.run(
        [sys.executable, "-c", CONCURRENT_TURNS, json.dumps(NO_LIMITS | fields)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    outcome = json.loads(run.stdout)
    assert (outcome["processes"], outcome["passed"], outcome["refused"]) == (8, 10, 70), run.stderr
    assert outcome["used"] == 0
    counted = [count for _, count in outcome["counts"]]
    assert counted == ([10] if "token_guest_limit" not in fields else [])
