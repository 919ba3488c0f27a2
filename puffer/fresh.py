"""Values from the database that a worker keeps in memory, and when it must read them anew.

The event loop must not wait for a thread and a query on every request, and a change in the admin must count at once.
So a value is kept for less than a second; and a change made on this machine touches a marker file, whose time every
worker looks at (about a microsecond), which makes it count with the very next request. Workers on other machines,
which share the database but not the marker, follow within MAX_AGE.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from django.conf import settings
from django.db import transaction

MAX_AGE = 0.8  # seconds; a revoked key must be dead within one
MAX_ENTRIES = 10_000

Value = TypeVar("Value")

_changes = 0  # made by this process: counts at once, also inside a transaction that is not yet committed


def _marker() -> int:
    try:
        return (settings.VAR_DIR / "changed").stat().st_mtime_ns
    except OSError:  # nothing was changed yet, or the folder is not ours to write in: then MAX_AGE alone decides
        return 0


def _touch() -> None:
    try:
        (settings.VAR_DIR / "changed").touch()
    except OSError:
        return


def announce_change() -> None:
    """Make every worker read its kept values anew. To be called by whatever saves or deletes them."""
    global _changes
    _changes += 1
    transaction.on_commit(_touch)


class Kept(Generic[Value]):
    """`await kept.get(key)` gives what `read(key)` gave, less than MAX_AGE seconds ago. None is not kept."""

    def __init__(self, read: Callable[[str], Awaitable[Value | None]]) -> None:
        self.read = read
        self.entries: dict[str, tuple[float, int, int, Value]] = {}

    async def get(self, key: str) -> Value | None:
        now, changes, marker = time.monotonic(), _changes, _marker()
        if entry := self.entries.get(key):
            read_at, seen_changes, seen_marker, value = entry
            if now - read_at < MAX_AGE and seen_changes == changes and seen_marker == marker:
                return value
        # The three are from before the query: a change during it makes the entry stale, never wrongly fresh.
        new = await self.read(key)
        if new is None:
            self.entries.pop(key, None)
            return None
        if len(self.entries) >= MAX_ENTRIES:
            self.entries.clear()
        self.entries[key] = (now, changes, marker, new)
        return new
