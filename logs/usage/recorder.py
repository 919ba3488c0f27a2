"""One usage record per provider call, written in batches so that no request waits for the database.

a call -> waiting -> with all that wait: the records and the sums of their day, in one transaction

A crash loses what was recorded in the last FLUSH_AFTER seconds; an orderly stop loses nothing.
"""

import asyncio
import logging
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
RETRY_AFTER = 1.0  # seconds, when the database did not take a batch
MAX_WAITING = 50_000  # calls; beyond that the oldest are dropped, for memory is not endless

_waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
_scheduled: asyncio.TimerHandle | None = None
_flushing: set["asyncio.Task[None]"] = set()  # the loop itself keeps only weak references


def record_usage(**call: Any) -> None:
    """Note one provider call; the names are UsageEvent's fields. To be called on the event loop; it does not wait."""
    call.setdefault("request_id", request_id.get())
    _waiting.append(call)
    _schedule(FLUSH_AFTER)


def _schedule(seconds: float) -> None:
    global _scheduled
    if _scheduled is None:
        _scheduled = asyncio.get_running_loop().call_later(seconds, _start_flush)


def _start_flush() -> None:
    task = asyncio.get_running_loop().create_task(flush_usage())
    _flushing.add(task)
    task.add_done_callback(_flushing.discard)


async def finish() -> None:
    """Write what is waiting and wait for what is being written: the process may end right after."""
    await asyncio.gather(*_flushing, flush_usage())


async def flush_usage() -> None:
    """Write what is waiting. After a failure it stays and is tried again."""
    global _scheduled
    if _scheduled is not None:
        _scheduled.cancel()
        _scheduled = None
    if not _waiting:
        return
    batch = list(_waiting)
    _waiting.clear()
    try:
        await sync_to_async(write)(batch)
    except DatabaseError:
        logger.exception("the database did not take %d usage records; they are tried again", len(batch))
        _waiting.extendleft(reversed(batch[: MAX_WAITING - len(_waiting)]))
        _schedule(RETRY_AFTER)
    except Exception:
        logger.exception("%d usage records are lost: they cannot be written", len(batch))


def write(batch: list[dict[str, Any]]) -> None:
    """Takes out of the batch what needs no further attempt: all, or where the database fails, those before that."""
    prices = PriceBook()
    events = [UsageEvent(**call, cost=prices.cost(call)) for call in batch]
    try:
        insert_with_sums(events)
    except (IntegrityError, DataError, ValueError):
        for event in events:
            write_alone(event)
            del batch[0]
    else:
        batch.clear()


def write_alone(event: UsageEvent) -> None:
    """One of a batch that the database refused as a whole: with its references, else without, else not at all."""
    try:
        try:
            insert_with_sums([event])
        except IntegrityError:  # a key or a chatbot was deleted while its call was under way
            event.api_key_id, event.chatbot_id = None, None
            insert_with_sums([event])
    except (IntegrityError, DataError, ValueError):
        logger.exception("a usage record is lost: the database can't hold it")


@transaction.atomic
def insert_with_sums(events: list[UsageEvent]) -> None:
    insert(events)
    add_events(events)
