"""Which webhook a thread of the worker serves next, so that a slow receiver delays no other's deliveries."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

FAST_SECONDS = 1.0
FAST_THREADS = 3  # of the worker's four, which a webhook may occupy while its receiver is fast; otherwise one


class Turns:
    """The webhooks that this process serves, shared by its threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: Counter[int] = Counter()
        self.served_at: dict[int, float] = {}
        self.fast: set[int] = set()  # by their last delivery; a receiver that is not known yet counts as slow

    @contextmanager
    def next_of(self, ready: Sequence[int]) -> Iterator[int | None]:
        """Yield the webhook, of those with a delivery that is due, to serve in the block; None if all have enough."""
        with self.lock:
            open_to_us = [pk for pk in ready if self.running[pk] < (FAST_THREADS if pk in self.fast else 1)]
            pk = min(open_to_us, key=lambda pk: (self.running[pk], self.served_at.get(pk, 0.0)), default=None)
            if pk is not None:
                self.running[pk] += 1
                self.served_at[pk] = time.monotonic()
        try:
            yield pk
        finally:
            if pk is not None:
                with self.lock:
                    self.running[pk] -= 1

    def is_fast(self, pk: int) -> bool:
        return pk in self.fast

    def note(self, pk: int, seconds: float) -> None:
        """Note how long a delivery took."""
        with self.lock:
            (self.fast.add if seconds < FAST_SECONDS else self.fast.discard)(pk)
