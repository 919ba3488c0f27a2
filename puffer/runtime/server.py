"""A supervisor: forks processes that share this one's memory, replaces those that end or hang, and stops them in order.

everything is loaded -> one fork per task -> a fork that ends or hangs is replaced -> SIGTERM or SIGINT: all stop
"""

import gc
import logging
import mmap
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

Heartbeat = Callable[[], None]

logger = logging.getLogger(__name__)
context = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Task:
    """A function for a process to run until SIGTERM, while it calls the heartbeat at least each second.

    A process is killed if it sends no heartbeat for `hung_after` seconds, or needs more than `stop_seconds` to stop.
    """

    name: str
    run: Callable[[Heartbeat], None]
    stop_seconds: float
    hung_after: float


class Fork:
    """A process that runs a task. It is replaced when it ends by itself or hangs."""

    def __init__(self, task: Task, heartbeats: mmap.mmap, number: int) -> None:
        self.task = task
        self.process: ForkProcess | None = None
        self.started_at = 0.0
        self.delay = 0.0
        self.restart_at: float | None = None
        self.heartbeats, self.number = heartbeats, number  # its byte of the shared memory changes with each heartbeat
        self.last_heartbeat = 0
        self.silent_polls = 0

    def start(self, run: Callable[["Fork"], None]) -> None:
        self.started_at, self.restart_at, self.silent_polls = time.monotonic(), None, 0
        process = context.Process(target=run, args=(self,), name=self.task.name)
        try:
            process.start()
        except OSError as error:  # for example no memory for another process
            self.process = None
            self.plan_restart(f"could not be started: {error.strerror}")
        else:
            self.process = process

    def heartbeat(self) -> None:
        self.heartbeats[self.number] = (self.heartbeats[self.number] + 1) % 256

    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def needs_start(self) -> bool:
        if self.is_alive():
            self.kill_if_hung()
            return False
        if self.restart_at is None:
            assert self.process is not None
            self.plan_restart(f"ended (exit {self.process.exitcode})")
        return time.monotonic() >= (self.restart_at or 0)

    def plan_restart(self, reason: str) -> None:
        has_lasted = time.monotonic() - self.started_at > 2 * LAST_DELAY
        self.delay = 0 if has_lasted else min(2 * self.delay or FIRST_DELAY, LAST_DELAY)
        self.restart_at = time.monotonic() + self.delay
        logger.error("The %s %s. Restarting it in %d s.", self.task.name, reason, self.delay)

    def kill_if_hung(self) -> None:
        """Kill the process if it was silent for too long.

        Polls are counted instead of seconds, so that a machine or a supervisor that was suspended kills no process.
        """
        heartbeat = self.heartbeats[self.number]
        self.silent_polls = self.silent_polls + 1 if heartbeat == self.last_heartbeat else 0
        self.last_heartbeat = heartbeat
        if self.silent_polls * POLL_SECONDS > self.task.hung_after:
            self.kill(f"has sent no heartbeat for {self.task.hung_after:g} s")

    def kill(self, reason: str) -> None:
        assert self.process is not None
        logger.error("The %s (process %s) %s. Killing it.", self.task.name, self.process.pid, reason)
        self.process.kill()
        self.process.join()


class Supervisor:
    """A supervisor that runs each task in a process. `run()` returns when, after a signal, all forks have ended.

    It calls `before_stop` before it stops them.
    """

    def __init__(self, tasks: Iterable[Task], before_stop: Callable[[], None] = lambda: None) -> None:
        tasks = list(tasks)
        heartbeats = mmap.mmap(-1, len(tasks))  # anonymous memory that the forks share
        self.forks = [Fork(task, heartbeats, number) for number, task in enumerate(tasks)]
        self.before_stop = before_stop
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
        self.before_stop()
        self.stop_forks()

    def stop(self, *_: Any) -> None:
        self.is_stopping = True

    def stop_forks(self) -> None:
        """Stop all forks at once. Kill those that hang or exceed their time."""
        began = time.monotonic()
        for fork in self.forks:
            if fork.process is not None:
                fork.process.terminate()
        while running := [fork for fork in self.forks if fork.is_alive()]:
            for fork in running:
                if time.monotonic() - began > fork.task.stop_seconds:
                    fork.kill(f"has not stopped within {fork.task.stop_seconds:g} s")
                else:
                    fork.kill_if_hung()
            time.sleep(POLL_SECONDS)

    def run_in_fork(self, fork: Fork) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.is_stopping:  # the signal came between the fork and the lines above
            return
        # Ctrl-C must not reach this process and those that it starts, such as the one that reads an upload: the
        # supervisor stops them, so that jobs can be finished.
        os.setsid()
        with suppress(OSError):  # where this file exists, `ps` and `top` show the name
            Path("/proc/self/comm").write_text(f"puffer {fork.task.name}")
        os.close(self.write_end)
        threading.Thread(target=self.stop_with_parent, args=(fork.task,), daemon=True).start()
        fork.task.run(fork.heartbeat)

    def stop_with_parent(self, task: Task) -> None:
        """Stop this fork when the supervisor has ended, even if it was killed."""
        os.read(self.read_end, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(task.stop_seconds)
        os.kill(os.getpid(), signal.SIGKILL)
