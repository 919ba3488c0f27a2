"""Processes that are forked from this one when it has loaded what they need: they share its memory, and are replaced.

loaded -> a fork for each name -> whichever ends is forked again -> SIGTERM or SIGINT: all end in order
"""

import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from django.db import connections

FIRST_DELAY, LAST_DELAY = 1, 30  # seconds before what has just begun and ended is forked again, doubled each time
LOOK_EVERY = 0.2  # seconds


@dataclass(frozen=True)
class Work:
    """What a process does until SIGTERM ends it, and how many seconds that may take; None: as many as it wants."""

    name: str
    do: Callable[[], None]
    seconds_to_end: float | None = None


logger = logging.getLogger(__name__)
context = multiprocessing.get_context("fork")


class Fork:
    """A process that does the work, and a new one whenever it ends by itself."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.process: ForkProcess
        self.begun = 0.0
        self.delay = 0.0
        self.due: float | None = None  # when it is to begin again

    def start(self, begin: Callable[[Work], None]) -> None:
        self.begun, self.due = time.monotonic(), None
        self.process = context.Process(target=begin, args=(self.work,), name=self.work.name)
        self.process.start()

    def has_to_start(self) -> bool:
        if self.process.is_alive():
            return False
        now = time.monotonic()
        if self.due is None:
            logger.error("The %s ended (exit %s) and is started again.", self.work.name, self.process.exitcode)
            has_lasted = now - self.begun > 2 * LAST_DELAY
            self.delay = 0 if has_lasted else min(2 * self.delay or FIRST_DELAY, LAST_DELAY)
            self.due = now + self.delay
        return now >= self.due


class Forks:
    """`run()` returns when this process is told to end and they have ended, too."""

    def __init__(self, works: Iterable[Work]) -> None:
        self.forks = [Fork(work) for work in works]
        self.is_told_to_end = False
        self.held, self.holds = os.pipe()  # the second is open in this process alone: its end is seen at the first

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.note)
        connections.close_all()  # no two processes may use one connection
        gc.collect()
        gc.freeze()  # to look for garbage writes to every object, and what is written to is no longer shared
        for fork in self.forks:
            fork.start(self.begin)
        while not self.is_told_to_end:
            time.sleep(LOOK_EVERY)
            for fork in self.forks:
                if not self.is_told_to_end and fork.has_to_start():
                    fork.start(self.begin)
        for fork in self.forks:
            fork.process.terminate()
        for fork in self.forks:
            fork.process.join(fork.work.seconds_to_end)
            fork.process.kill()  # in case it has not ended
            fork.process.join()

    def note(self, *_: Any) -> None:
        self.is_told_to_end = True

    def begin(self, work: Work) -> None:
        """The life of a fork."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.is_told_to_end:  # between the fork and the lines above
            return
        with suppress(OSError):  # where there is such a file `ps` and `top` show the name
            Path("/proc/self/comm").write_text(f"puffer {work.name}")
        os.close(self.holds)
        threading.Thread(target=self.end_with_parent, daemon=True).start()
        work.do()

    def end_with_parent(self) -> None:
        """However that ends: also killed, it lets go of what it holds."""
        os.read(self.held, 1)
        os.kill(os.getpid(), signal.SIGTERM)
