"""Work in the background of a starting server: readiness waits for it, but not for long."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from puffer.runtime import health, startup
from puffer.runtime.database_threads import health_threads

pytestmark = pytest.mark.django_db(transaction=True)
finish = threading.Event()


def work() -> None:
    assert finish.wait(10)


def fail() -> None:
    raise RuntimeError


@pytest.fixture(autouse=True)
def no_thread_remains(monkeypatch):
    finish.clear()
    monkeypatch.setattr(startup, "_thread", None)
    yield
    finish.set()
    startup._thread.join()
    asyncio.run(close_connections())


async def close_connections() -> None:
    """Close what the health checks have opened in their own thread."""
    health_threads.assign_one()
    await sync_to_async(connections.close_all)()


def test_readiness_waits_for_the_work(settings):
    settings.AT_STARTUP = [f"{__name__}.work"]
    startup.begin()

    async def check() -> None:
        waiting = asyncio.ensure_future(health.ready())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        assert await health.live() == ""
        finish.set()
        assert await waiting == ""

    asyncio.run(check())


def test_readiness_does_not_wait_for_long(settings, monkeypatch):
    settings.AT_STARTUP = [f"{__name__}.work"]
    monkeypatch.setattr(startup, "READY_SECONDS", 0.2)
    startup.begin()
    assert asyncio.run(health.ready()) == ""
    assert not finish.is_set()


def test_a_failure_is_logged(settings, caplog):
    settings.AT_STARTUP = [f"{__name__}.fail"]
    startup.begin()
    assert asyncio.run(health.ready()) == ""
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]
