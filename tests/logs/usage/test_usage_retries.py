"""Usage records when the database refuses some or fails: none is lost or stored twice."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection
from django.db.models import Sum

from logs.models import UsageDailyTotal, UsageEvent
from logs.usage import recorder
from providers.run_async import run_async

CONDITION = (
    "new.model = 'disk full' AND EXISTS (SELECT 1 FROM logs_usagedailytotal)"  # false while the whole batch is inserted
)
FAIL = {
    "sqlite": [
        f"CREATE TRIGGER fails AFTER INSERT ON logs_usageevent WHEN {CONDITION}"
        " BEGIN SELECT abs(-9223372036854775807 - 1); END"
    ],
    "postgresql": [
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF {CONDITION}"
        " THEN RAISE EXCEPTION USING ERRCODE = '53100'; END IF; RETURN NULL; END$$",
        "CREATE TRIGGER fails AFTER INSERT ON logs_usageevent FOR EACH ROW EXECUTE FUNCTION fail()",
    ],
}
RECOVER = {"sqlite": ["DROP TRIGGER fails"], "postgresql": ["DROP FUNCTION fail CASCADE"]}


def run(statements):
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)


def record(model, **more):
    defaults = {"operation": "completion", "provider": "openai", "milliseconds": 1, "status": 200}
    recorder.record_usage(**defaults | {"model": model} | more)


def stored():
    return sorted(UsageEvent.objects.values_list("model", "chatbot_id"))


@pytest.mark.django_db(transaction=True)
def test_a_failure_after_a_refused_batch_writes_no_record_twice(bot):
    missing_bot_id = bot.pk + 1

    @async_to_sync
    async def calls():
        record("first", chatbot_id=bot.pk)
        record("second", chatbot_id=missing_bot_id)  # the database refuses the whole batch because of it
        record("disk full", chatbot_id=bot.pk)
        record("last", chatbot_id=missing_bot_id)
        await sync_to_async(run)(FAIL)
        try:
            await recorder.flush_usage()
            before = await sync_to_async(stored)()
            record("later")
        finally:
            await sync_to_async(run)(RECOVER)
        await recorder.flush_usage()
        return before

    assert calls() == [("first", bot.pk), ("second", None)]
    assert stored() == [
        ("disk full", bot.pk), ("first", bot.pk), ("last", None), ("later", None), ("second", None)
    ]  # fmt: skip
    assert UsageDailyTotal.objects.aggregate(calls=Sum("calls")) == {"calls": 5}


@pytest.mark.django_db(transaction=True)
def test_an_invalid_record_does_not_block_the_others(bot):
    @async_to_sync
    async def calls():
        record("first")
        record("\ud800")
        record("second", provider=None)
        record("last")
        await recorder.flush_usage()
        await recorder.flush_usage()

    calls()
    assert stored() == [("first", None), ("last", None)]
    assert UsageDailyTotal.objects.aggregate(calls=Sum("calls")) == {"calls": 2}


@pytest.mark.django_db(transaction=True)
def test_a_write_that_has_begun_is_finished_before_its_event_loop_ends():
    """As of a golden run in the worker, whose last call came a moment before its end."""

    async def calls() -> None:
        record("last")
        while recorder._loop.timer is not None:  # until the write of the timer begins
            await asyncio.sleep(0)

    run_async(calls)
    assert stored() == [("last", None)]


LOOPS = """
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import django
django.setup()
from asgiref.sync import async_to_sync
from django.db import connections
from logs.models import UsageEvent
from logs.usage import recorder

CALLS = 3000


async def calls(thread):
    for number in range(CALLS):
        recorder.record_usage(
            operation="completion", provider="openai", model=f"{thread}-{number}", milliseconds=1, status=200
        )
        if thread == 0 and number % 100 == 0:
            await recorder.flush_usage()
    await recorder.flush_usage()


def run_calls(thread):
    async_to_sync(calls)(thread)
    connections.close_all()


sys.setswitchinterval(1e-6)  # threads meet as often as they can
with ThreadPoolExecutor(4) as threads:
    list(threads.map(run_calls, range(4)))
written = Counter(UsageEvent.objects.values_list("model", flat=True))
print(4 * CALLS - len(written), "lost,", written.total() - len(written), "doubled")
"""


@pytest.mark.slow
def test_the_event_loops_of_a_worker_share_the_queue(database_url):
    """A background worker runs each kind of job in a thread of its own, with event loops of its own."""
    environment = os.environ | {"DATABASE_URL": database_url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    run = subprocess.run(
        [sys.executable, "-c", LOOPS],
        cwd=Path(__file__).parents[3], env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (run.stdout, run.returncode) == ("0 lost, 0 doubled\n", 0), run.stderr
