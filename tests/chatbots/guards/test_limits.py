"""Rate limits and token quotas of the widget's visitors, in one process and in many at once."""

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from chatbots.conversation.visitor import Identity, Visitor
from chatbots.guards import leftovers, limits
from chatbots.guards.limits import ChatbotPaused
from chatbots.models import Chatbot, MessageCount, TokenAllowance
from logs.models import Conversation
from puffer.api.errors import ApiError
from puffer.runtime import delete_batch
from tests.support.guests import NO_LIMITS, guest, identified, refusal, turn, used
from tests.support.repository import ROOT

GUEST_KEY = guest().key


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


def test_a_quota_that_begins_again_is_not_deleted(limited):
    bot = limited(token_guest_limit=10_000)
    turn(bot, guest())
    quotas = TokenAllowance.objects.filter(chatbot=bot)
    quotas.update(period_start=timezone.now() - timedelta(days=60))
    past = quotas.filter(period_start__lt=timezone.now() - timedelta(days=50))

    def begin_again_before_deletion(execute, sql, *arguments):
        if sql.startswith("DELETE"):
            quotas.update(period_start=timezone.now())
        return execute(sql, *arguments)

    with connection.execute_wrapper(begin_again_before_deletion):
        delete_batch(past)
    assert quotas.exists()


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
