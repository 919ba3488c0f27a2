"""Values from the database that a worker keeps in memory, and when it must read them anew.

The event loop must not wait for a thread and a query on every request, and a change in the admin must count at once.
So a value is kept for less than a second; and a change made on this machine touches a marker file, whose time every
worker looks at (about a microsecond), which makes it count with the very next request. Workers on other machines,
which share the database but not the marker, follow within MAX_AGE.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import transaction

MAX_AGE = 0.8  # seconds; a revoked key must be dead within one
MAX_ENTRIES = 10_000

Value = TypeVar("Value")

_changes = 0  # made by this process: counts at once, also inside a transaction that is not yet committed


def _marker_file() -> str:
    return f"{settings.VAR_DIR}/changed"


def _state() -> tuple[int, int]:
    """What differs once anything has changed on this machine."""
    try:
        return _changes, os.stat(_marker_file()).st_mtime_ns
    except OSError:  # nothing was changed yet, or the folder is not ours to write in: then MAX_AGE alone decides
        return _changes, 0


def _touch() -> None:
    with contextlib.suppress(OSError):
        Path(_marker_file()).touch()


def forget() -> None:
    """Make this process read its kept values anew."""
    global _changes
    _changes += 1


def invalidate() -> None:
    """Make every worker read its kept values anew. To be called by whatever saves or deletes them."""
    forget()
    transaction.on_commit(_touch)


@dataclass(slots=True)
class Entry(Generic[Value]):
    """A value and when, and in which state of the world, its reading began: a change during it makes it stale."""

    began: float
    state: tuple[int, int]
    reading: "asyncio.Task[Value | None] | None"  # until it has ended; others wait for it instead of reading too
    value: Value | None = None


class LiveCache(Generic[Value]):
    """`await kept.get(key)` gives what `read(key)` gave, less than MAX_AGE seconds ago. None is not kept."""

    def __init__(self, read: Callable[[str], Awaitable[Value | None]]) -> None:
        self.read = read
        self.entries: dict[str, Entry[Value]] = {}

    async def get(self, key: str) -> Value | None:
        now, state = time.monotonic(), _state()
        entry = self.entries.get(key)
        if entry is None or now - entry.began >= MAX_AGE or entry.state != state or not _can_wait_for(entry.reading):
            entry = self.begin(key, now, state)
        if entry.reading is None:
            return entry.value
        return await asyncio.shield(entry.reading)

    def begin(self, key: str, now: float, state: tuple[int, int]) -> Entry[Value]:
        if len(self.entries) >= MAX_ENTRIES:
            self.entries.clear()
        entry = self.entries[key] = Entry(now, state, None)
        entry.reading = asyncio.ensure_future(self.finish(key, entry))
        return entry

    async def finish(self, key: str, entry: Entry[Value]) -> Value | None:
        try:
            entry.value = await self.read(key)
            return entry.value
        finally:
            entry.reading = None
            if entry.value is None and self.entries.get(key) is entry:
                del self.entries[key]


def _can_wait_for(reading: "asyncio.Task[Any] | None") -> bool:
    return reading is None or reading.get_loop() is asyncio.get_running_loop()
