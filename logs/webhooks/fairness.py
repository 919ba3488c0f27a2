"""Choose the webhook that a worker thread serves next, so that a slow receiver delays no other's deliveries."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

FAST_SECONDS = 1.0
FAST_THREADS = 3  # of the worker's four, which a webhook may occupy while its receiver is fast; otherwise one


class FairSchedule:
    """The webhooks that this process serves, shared by its threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: Counter[int] = Counter()
        self.served_at: dict[int, float] = {}
        self.fast: set[int] = set()  # by the time of their last delivery; new receivers count as slow

    @contextmanager
    def next_of(self, ready: Sequence[int]) -> Iterator[int | None]:
        """Yield the webhook, among `ready` ones, to serve in the block; None if enough threads serve each."""
        with self.lock:
            available = [pk for pk in ready if self.running[pk] < (FAST_THREADS if pk in self.fast else 1)]
            pk = min(available, key=lambda pk: (self.running[pk], self.served_at.get(pk, 0.0)), default=None)
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

    def record(self, pk: int, seconds: float) -> None:
        """Record how long a delivery took."""
        with self.lock:
            (self.fast.add if seconds < FAST_SECONDS else self.fast.discard)(pk)
