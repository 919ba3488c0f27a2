"""The CPU time of work, as a ratio to reference work that is timed beside it: machines and their load differ."""

import json
import re
import time
from collections.abc import Callable

REFERENCE_MILLISECONDS = 10.0  # of reference_work(), on an idle core of a server of 2025
TRIES = 8
TEXT = "The quick brown fox, 12 jumps; over_the lazy dog! " * 2400


def reference_work() -> None:
    lengths: dict[str, int] = {}
    for word in re.findall(r"\w+", TEXT):
        lengths[word.lower()] = lengths.get(word, 0) + len(word)
    json.loads(json.dumps(list(lengths.items()) * 900))


def seconds_of(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def cpu_milliseconds(work: Callable[[], object], limit: float) -> float:
    """Return what the best of some tries takes on the reference machine. The first one below the limit ends them."""
    references, costs = [], []
    for _ in range(TRIES):
        references.append(seconds_of(reference_work))
        costs.append(seconds_of(work))
        milliseconds = min(costs) / min(references) * REFERENCE_MILLISECONDS
        if milliseconds < limit:
            break
    return milliseconds


def seconds_here(seconds: float) -> float:
    """Return how long work takes on this machine that takes `seconds` on the reference machine."""
    return seconds * min(seconds_of(reference_work) for _ in range(TRIES)) * 1000 / REFERENCE_MILLISECONDS
