"""Exponential backoff: how long to wait before the next attempt."""

import random

MAX_DOUBLINGS = 64  # keeps the power finite, however many failures there were


def backoff(failures: int, first: float, longest: float, *, factor: float = 2, jitter: float = 0) -> float:
    """Return the seconds to wait after so many failures in a row: `first`, times `factor` each time, at most `longest`.

    `jitter` lengthens the wait by up to that share of it, so that callers that failed together do not retry together.
    """
    delay = min(first * factor ** min(failures - 1, MAX_DOUBLINGS), longest)
    return delay * random.uniform(1, 1 + jitter)  # noqa: S311 - spreads retries, protects nothing
