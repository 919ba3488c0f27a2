"""A timer for chores that run now and then, without a scheduler."""

import math
import time


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
