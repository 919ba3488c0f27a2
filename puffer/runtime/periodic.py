"""Chores that run now and then, without a scheduler: their timer, and deletion in batches."""

import math
import time
from typing import Any

BATCH = 2000  # rows in a transaction


class Periodic:
    """The timer of a chore: due at first, and again `every_seconds` after each restart. Each process has its own."""

    def __init__(self, every_seconds: float) -> None:
        self.every_seconds = every_seconds
        self._due_at = -math.inf  # time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() >= self._due_at

    def restart(self) -> None:
        """Make the chore due `every_seconds` from now."""
        self._due_at = time.monotonic() + self.every_seconds


def delete_batch(rows: Any) -> bool:
    """Delete the oldest of the rows, few enough that others can write in between. Return whether there may be more."""
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
    rows.filter(pk__in=ids).delete()  # only those that still match: others may have changed a row meanwhile
    return len(ids) == BATCH
