"""The daily totals equal the sums of the rows, however the rows were written."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.utils import timezone

from logs.conversations.writer import Turn, write_turns
from logs.models import Conversation, ConversationDailyTotal, Message, UsageDailyTotal, UsageEvent
from logs.usage import recorder
from logs.usage.daily_totals import column_of, rebuild, today, usage_totals
from puffer.models import ApiKey
from tests.support.repository import ROOT

pytestmark = pytest.mark.django_db

CALL = {"operation": "completion", "provider": "openai", "model": "gpt-4o", "milliseconds": 400, "status": 200}


def call(**changes):
    return {**CALL, **changes}


def totals_of(kind):
    """Return {dimensions: measures} of the stored totals, adding up rows with the same dimensions after a deletion."""
    totals = {}
    for row in kind.objects.all():
        dimensions = tuple(getattr(row, name) for name in kind.dimensions)
        measures = [getattr(row, name) for name in kind.measures]
        totals[dimensions] = [a + b for a, b in zip(totals.get(dimensions, [0] * len(measures)), measures, strict=True)]
    return totals


def totals_around_rebuild():
    """Rebuild the totals; return them as they were before, and as they are after it."""
    before = totals_of(UsageDailyTotal), totals_of(ConversationDailyTotal)
    rebuild()
    return before, (totals_of(UsageDailyTotal), totals_of(ConversationDailyTotal))


def test_calls_are_added_to_the_totals(bot):
    key = ApiKey(name="Website", scopes=["chat"])
    key.issue()
    recorder.write(
        [
            call(chatbot_id=bot.pk, api_key_id=key.pk, input_tokens=1000, output_tokens=100, milliseconds=400),
            call(chatbot_id=bot.pk, api_key_id=key.pk, input_tokens=3000, output_tokens=50, milliseconds=1500),
            call(chatbot_id=bot.pk, api_key_id=key.pk, status=502, milliseconds=9000),
            call(chatbot_id=bot.pk, api_key_id=key.pk, status=499, input_tokens=10, output_tokens=1),
            call(model="unknown", input_tokens=5, output_tokens=5),
            call(operation="image", model="dall-e-3", images=2),
        ]
    )
    images, known, unknown = UsageDailyTotal.objects.order_by("model")
    assert (known.day, known.chatbot, known.api_key, known.provider) == (today(), bot, key, "openai")
    assert (known.calls, known.errors, known.input_tokens, known.output_tokens) == (4, 1, 4010, 151)
    assert known.cost == Decimal("0.011535")  # 4,010 tokens at $2.50 and 151 at $10 per million
    assert (known.up_to_500, known.up_to_1500, known.longer, known.without_price) == (1, 1, 0, 0)
    assert (unknown.calls, unknown.without_price, unknown.cost) == (1, 1, 0)
    assert (images.operation, images.images) == ("image", 2)


@pytest.mark.parametrize(
    ("milliseconds", "column"),
    [(0, "up_to_10"), (10, "up_to_10"), (11, "up_to_25"), (60_000, "up_to_60000"), (60_001, "longer")],
)
def test_calls_are_counted_in_the_histogram_column_of_their_duration(milliseconds, column):
    assert column_of(milliseconds) == column
    recorder.write([call(milliseconds=milliseconds)])
    [counted] = usage_totals(today())
    assert {name: getattr(counted, name) for name in UsageDailyTotal.histogram if getattr(counted, name)} == {column: 1}


def turn(question, bot, **more):
    defaults = {"reply": "Fine.", "provider": "openai", "model": "gpt-4o", "begins": False, **more}
    return Turn(question, bot.pk, **defaults)


def test_turns_are_added_to_the_totals(bot):
    write_turns([turn("Hi", bot, conversation_uuid="a"), turn("Hello", bot, conversation_uuid="b")])
    write_turns([turn("Again", bot, conversation_uuid="a"), turn("New", bot, conversation_uuid="c", begins=True)])
    write_turns([turn("Again", bot, conversation_uuid="c", provider="claude", model="haiku")])
    first, second = ConversationDailyTotal.objects.order_by("-messages")
    assert (first.provider, first.conversations, first.messages) == ("openai", 3, 8)
    assert (second.provider, second.conversations, second.messages) == ("claude", 0, 2)
    before, after = totals_around_rebuild()
    assert before == after


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("Europe/Berlin", "2026-03-29T21:59:59", "2026-03-29"),  # this day has 23 hours, because summer time begins
        ("Europe/Berlin", "2026-03-29T22:00:00", "2026-03-30"),
        ("America/Los_Angeles", "2026-03-10T06:59:00", "2026-03-09"),
        ("Pacific/Kiritimati", "2026-03-10T10:00:00", "2026-03-11"),
    ],
)
def test_days_follow_the_sites_time_zone(settings, bot, zone, moment, day):
    settings.TIME_ZONE = zone
    timezone.get_default_timezone.cache_clear()
    try:
        at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        recorder.write([call(created_at=at)])
        assert str(UsageDailyTotal.objects.get().day) == day
        write_turns([turn("Hi", bot)])
        Message.objects.update(created_at=at)
        Conversation.objects.update(created_at=at)
        with timezone.override("Asia/Tokyo"):  # the viewer's time zone has no effect
            rebuild()
        assert str(UsageDailyTotal.objects.get().day) == day
        assert str(ConversationDailyTotal.objects.get().day) == day
    finally:
        timezone.get_default_timezone.cache_clear()


@pytest.mark.django_db(transaction=True)
def test_totals_are_kept_when_rows_are_deleted(bot):
    recorder.write([call(chatbot_id=bot.pk), call()])
    write_turns([turn("Hi", bot)])
    bot_id = bot.pk
    bot.delete()
    recorder.write([call(chatbot_id=bot_id), call()])  # a call that was in progress
    dimensions = (today(), None, None, "openai", "gpt-4o", "completion")
    assert totals_of(UsageDailyTotal).keys() == {dimensions}
    assert totals_of(UsageDailyTotal)[dimensions][0] == 4
    before, after = totals_around_rebuild()
    assert before == after
    Conversation.objects.all().delete()
    UsageEvent.objects.all().delete()
    assert totals_of(UsageDailyTotal) == after[0]
    assert [row.messages for row in ConversationDailyTotal.objects.all()] == [2]


def test_rebuilding_corrects_the_totals(bot):
    yesterday = timezone.now() - timedelta(days=1)
    recorder.write([call(created_at=yesterday), call(status=429), call(created_at=yesterday - timedelta(days=1))])
    write_turns([turn("Hi", bot)])
    right = totals_of(UsageDailyTotal), totals_of(ConversationDailyTotal)
    UsageDailyTotal.objects.update(calls=F("calls") + 7)
    ConversationDailyTotal.objects.all().delete()
    out = StringIO()
    call_command("rebuild_daily_totals", stdout=out)
    assert "Rebuilt the totals of 3 days." in out.getvalue()
    assert (totals_of(UsageDailyTotal), totals_of(ConversationDailyTotal)) == right


def test_rebuilding_can_skip_older_days():
    long_ago = timezone.now() - timedelta(days=40)
    recorder.write([call(created_at=long_ago), call(created_at=long_ago + timedelta(days=5)), call()])
    UsageEvent.objects.filter(created_at__lte=long_ago).delete()
    UsageDailyTotal.objects.update(calls=5)
    call_command("rebuild_daily_totals", "--since", str(today() - timedelta(days=35)))
    assert list(UsageDailyTotal.objects.order_by("day").values_list("calls", flat=True)) == [5, 1, 1]
    call_command("rebuild_daily_totals", "--since", str(today() + timedelta(days=1)))
    assert UsageDailyTotal.objects.count() == 3


def test_rebuilding_without_rows_stores_no_totals():
    assert rebuild() == 1
    assert not UsageDailyTotal.objects.exists()


def test_an_invalid_day_is_refused():
    with pytest.raises(CommandError, match="a day, such as"):
        call_command("rebuild_daily_totals", "--since", "yesterday")


# Concurrent writes, in a new process

CONCURRENT_WRITES = """
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
import django
django.setup()
from django.db import connections
from chatbots.models import Chatbot
from logs.conversations.writer import Turn, write_turns
from logs.models import Conversation, ConversationDailyTotal, Message, UsageDailyTotal, UsageEvent
from logs.usage import recorder
from logs.usage.daily_totals import rebuild

bots = [Chatbot.objects.create(name=name).pk for name in ("Shop", "Other")]
models = ["gpt-4o", "gpt-4o-mini", "unknown"]


def write(number):
    for turn in range(10):
        ordered = bots if number % 2 else bots[::-1]
        recorder.write([
            dict(
                operation="completion", provider="openai", model=models[(number + turn) % 3], chatbot_id=bot,
                input_tokens=number, output_tokens=turn, milliseconds=100 * number * turn,
                status=200 if turn % 5 else 502,
            )
            for bot in ordered
        ])
        write_turns([Turn("Hi", bot, reply="Hello", conversation_uuid=f"{number % 3}") for bot in ordered])
    connections.close_all()


def count():
    for _ in range(5):
        rebuild()
    connections.close_all()


with ThreadPoolExecutor(9) as pool:
    for done in [*(pool.submit(write, number) for number in range(8)), pool.submit(count)]:
        done.result()

expected = {}
for event in UsageEvent.objects.all():
    row = expected.setdefault(f"{event.chatbot_id} {event.model}", [0, 0, 0, Decimal(0)])
    for index, value in enumerate([1, event.status == 502, event.input_tokens, event.cost or 0]):
        row[index] += value
stored = {
    f"{row.chatbot_id} {row.model}": [row.calls, row.errors, row.input_tokens, row.cost]
    for row in UsageDailyTotal.objects.all()
}
print(json.dumps({
    "expected": expected,
    "stored": stored,
    "calls": UsageEvent.objects.count(),
    "turns": [(row.conversations, row.messages) for row in ConversationDailyTotal.objects.all()],
    "messages": sum(Conversation.objects.values_list("message_count", flat=True)),
}, default=float))
"""


@pytest.mark.slow
def test_totals_are_right_after_concurrent_writes(database_url):
    """Run eight writers in parallel with rebuilds of the totals."""
    environment = os.environ | {"DATABASE_URL": database_url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    run = subprocess.run(
        [sys.executable, "-c", CONCURRENT_WRITES],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["stored"] == found["expected"]
    assert (found["calls"], found["messages"], found["turns"]) == (160, 320, [[3, 160], [3, 160]])
