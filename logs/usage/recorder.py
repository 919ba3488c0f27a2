"""The recorder of provider calls: one usage event each, written in batches so that no request waits for the database.

a call -> the queue -> all queued events and the totals of their day, in one transaction

A crash loses the calls of the last FLUSH_AFTER seconds; an orderly stop loses none.
"""

import asyncio
import logging
import threading
from collections import deque
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, DataError, IntegrityError, transaction

from logs.bulk_insert import insert
from logs.models import UsageEvent
from logs.usage.daily_totals import add_events
from logs.usage.prices import PriceBook
from puffer.request_id import request_id

logger = logging.getLogger(__name__)

FLUSH_AFTER = 0.05  # seconds
RETRY_AFTER = 1.0  # seconds, after a database error
MAX_QUEUED = 50_000  # calls; beyond that the oldest are dropped, to bound memory


class LoopState(threading.local):
    """The state of one event loop. A background worker runs several, each in its own thread."""

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | None = None
        self.flushing: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references


# All threads share the queue: calls that one event loop could not write before its end are written by another.
_queue: deque[dict[str, Any]] = deque(maxlen=MAX_QUEUED)
_lock = threading.Lock()
_loop = LoopState()


def record_usage(**call: Any) -> None:
    """Queue one provider call, by the names of UsageEvent's fields. Call it on the event loop; it does not wait.

    The cost follows from the prices unless it is given.
    """
    call.setdefault("request_id", request_id.get())
    with _lock:
        _queue.append(call)
    _schedule(FLUSH_AFTER)


def _schedule(seconds: float) -> None:
    if _loop.timer is None:
        _loop.timer = asyncio.get_running_loop().call_later(seconds, _start_flush)


def _start_flush() -> None:
    task = asyncio.get_running_loop().create_task(_write_queue())
    _loop.flushing.add(task)
    task.add_done_callback(_loop.flushing.discard)


async def flush_usage() -> None:
    """Write the queue and wait for running writes, because the event loop or the process may end right after."""
    await asyncio.gather(*_loop.flushing, _write_queue())


async def _write_queue() -> None:
    """Write the queue. After a database error the calls stay in it and a retry is scheduled."""
    if _loop.timer is not None:
        _loop.timer.cancel()
        _loop.timer = None
    with _lock:
        batch = list(_queue)
        _queue.clear()
    if not batch:
        return
    try:
        await sync_to_async(write)(batch)
    except DatabaseError:
        logger.exception("%d usage records could not be written; they will be retried", len(batch))
        with _lock:
            _queue.extendleft(reversed(batch[: MAX_QUEUED - len(_queue)]))
        _schedule(RETRY_AFTER)
    except Exception:
        logger.exception("%d usage records are lost: they cannot be written", len(batch))


def write(batch: list[dict[str, Any]]) -> None:
    """Write a batch. Remove from it the calls that need no retry: all, or those before a database error."""
    prices = PriceBook()
    events = [UsageEvent(**({"cost": prices.cost(call)} | call)) for call in batch]
    try:
        insert_with_sums(events)
    except (IntegrityError, DataError, ValueError):
        for event in events:
            write_alone(event)
            del batch[0]
    else:
        batch.clear()


def write_alone(event: UsageEvent) -> None:
    """Write one event of a refused batch: with its references, or without them, or not at all."""
    try:
        try:
            insert_with_sums([event])
        except IntegrityError:  # a key or a chatbot was deleted during the call
            event.api_key_id, event.chatbot_id = None, None
            insert_with_sums([event])
    except (IntegrityError, DataError, ValueError):
        logger.exception("a usage record is lost: the database cannot store it")


@transaction.atomic
def insert_with_sums(events: list[UsageEvent]) -> None:
    insert(events)
    add_events(events)
