"""Rate limits in memory, for what is refused before any query. Each process counts for itself."""

import time
from collections import Counter

MAX_SUBJECTS = 20_000  # per window; further ones are not counted, so that the memory stays bounded


class RateLimit:
    """At most `limit` events of a subject, such as a network, in each window of `seconds`."""

    def __init__(self, limit: int, seconds: int = 60) -> None:
        self.limit, self.seconds = limit, seconds
        self.window = 0
        self.counts: Counter[str] = Counter()

    def allows(self, subject: str) -> bool:
        """Count one more event and return whether it is within the limit. The subject "" is not counted."""
        window = int(time.time() // self.seconds)
        if window != self.window:
            self.window = window
            self.counts.clear()
        if not subject or (len(self.counts) >= MAX_SUBJECTS and subject not in self.counts):
            return True
        self.counts[subject] += 1
        return self.counts[subject] <= self.limit

    def retry_after(self) -> str:
        """Return the seconds until the next window begins."""
        return str(max(int((self.window + 1) * self.seconds - time.time()), 1))
