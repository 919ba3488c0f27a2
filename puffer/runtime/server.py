"""A supervisor: forks processes that share this one's memory, replaces those that end, and stops them in order.

everything is loaded -> one fork per task -> each fork that ends is replaced -> SIGTERM or SIGINT: all stop
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

FIRST_DELAY, LAST_DELAY = 1, 30  # seconds before a process that ended soon after its start is replaced; doubles
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Task:
    """A function for a process to run until SIGTERM. It may take `stop_seconds` to stop; None means no limit."""

    name: str
    run: Callable[[], None]
    stop_seconds: float | None = None


logger = logging.getLogger(__name__)
context = multiprocessing.get_context("fork")


class Fork:
    """A process that runs a task. It is replaced when it ends by itself."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.process: ForkProcess
        self.started_at = 0.0
        self.delay = 0.0
        self.restart_at: float | None = None

    def start(self, run: Callable[[Task], None]) -> None:
        self.started_at, self.restart_at = time.monotonic(), None
        self.process = context.Process(target=run, args=(self.task,), name=self.task.name)
        self.process.start()

    def needs_start(self) -> bool:
        if self.process.is_alive():
            return False
        now = time.monotonic()
        if self.restart_at is None:
            logger.error("The %s ended (exit %s). Restarting it.", self.task.name, self.process.exitcode)
            has_lasted = now - self.started_at > 2 * LAST_DELAY
            self.delay = 0 if has_lasted else min(2 * self.delay or FIRST_DELAY, LAST_DELAY)
            self.restart_at = now + self.delay
        return now >= self.restart_at


class Supervisor:
    """A supervisor that runs each task in a process. `run()` returns when, after a signal, all forks have ended."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.forks = [Fork(task) for task in tasks]
        self.is_stopping = False
        # Only this process keeps the write end open, so a fork reads EOF when this process dies.
        self.read_end, self.write_end = os.pipe()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        connections.close_all()  # processes must not share a connection
        gc.collect()
        gc.freeze()  # a collection writes to every object, and a written page is no longer shared
        for fork in self.forks:
            fork.start(self.run_in_fork)
        while not self.is_stopping:
            time.sleep(POLL_SECONDS)
            for fork in self.forks:
                if not self.is_stopping and fork.needs_start():
                    fork.start(self.run_in_fork)
        for fork in self.forks:
            fork.process.terminate()
        for fork in self.forks:
            fork.process.join(fork.task.stop_seconds)
            fork.process.kill()  # in case it has not stopped
            fork.process.join()

    def stop(self, *_: Any) -> None:
        self.is_stopping = True

    def run_in_fork(self, task: Task) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the supervisor stops the forks
        if self.is_stopping:  # the signal came between the fork and the lines above
            return
        with suppress(OSError):  # where this file exists, `ps` and `top` show the name
            Path("/proc/self/comm").write_text(f"puffer {task.name}")
        os.close(self.write_end)
        threading.Thread(target=self.stop_with_parent, daemon=True).start()
        task.run()

    def stop_with_parent(self) -> None:
        """Stop this fork when the supervisor has ended, even if it was killed."""
        os.read(self.read_end, 1)
        os.kill(os.getpid(), signal.SIGTERM)
