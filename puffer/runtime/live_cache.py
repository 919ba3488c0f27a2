"""An in-process cache of database values that is invalidated within a second on every worker.

The event loop must not wait for a thread and a query on every request, and a change in the admin must take effect at
once. So an entry lives for less than a second, and a change on this machine touches a marker file. Every worker checks
the modification time of that file on each read (about a microsecond), so the next request sees the change. Workers on
other machines share the database but not the file; they follow within MAX_AGE.
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
from django.db import models, transaction

MAX_AGE = 0.8  # seconds; a revoked API key must stop working within one
MAX_ENTRIES = 10_000

Value = TypeVar("Value")

_changes = 0  # by this process; effective at once, also inside an open transaction


def _marker_file() -> str:
    return f"{settings.VAR_DIR}/changed"


def _state() -> tuple[int, int]:
    """Return a value that differs after any change on this machine."""
    try:
        return _changes, os.stat(_marker_file()).st_mtime_ns
    except OSError:  # no change yet, or the folder is not writable: only MAX_AGE applies
        return _changes, 0


def _touch() -> None:
    with contextlib.suppress(OSError):
        Path(_marker_file()).touch()


def invalidate_process() -> None:
    """Invalidate all entries of this process."""
    global _changes
    _changes += 1


def invalidate() -> None:
    """Invalidate all entries of every worker. Call this after saving or deleting cached rows."""
    invalidate_process()
    transaction.on_commit(_touch)


@dataclass(slots=True)
class Entry(Generic[Value]):
    """A value, with the time and state at which its reading began: a change during the reading makes it stale."""

    began: float
    state: tuple[int, int]
    reading: "asyncio.Task[Value | None] | None"  # while it runs; concurrent readers wait for it
    value: Value | None = None


class LiveModel(models.Model):
    """A model whose rows are cached: a saved or deleted one invalidates the caches."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        super().save(*args, **options)
        invalidate()

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **options)
        invalidate()
        return deleted


class LiveCache(Generic[Value]):
    """A cache of what `read(key)` returns, for at most MAX_AGE seconds. None is not cached."""

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
