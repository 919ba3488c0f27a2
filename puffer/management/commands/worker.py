import logging
import os
import signal
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from django.utils.module_loading import import_string

from puffer.runtime import backoff
from puffer.runtime.health import missing_migration

FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0  # seconds between polls while no job is due, doubled each time
LAST_PAUSE_AFTER_FAILURE = 30.0  # seconds

logger = logging.getLogger(__name__)

JobRunner = Callable[[], bool]


class Command(BaseCommand):
    help = (
        "Run background jobs, such as sending webhooks. `serve` runs one worker; any number may run, on any machine "
        "with the same database. On SIGTERM a worker finishes its current jobs and exits."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="run the jobs that are due now, then exit")

    def handle(self, *, once: bool, **options: Any) -> None:
        require_migrations()
        if not once:
            work(jobs())
            return
        while any(job() for job in jobs()):  # until no job is due, because a job may create others
            pass


def require_migrations() -> None:
    """Raise CommandError if the database lacks migrations. One that does not answer may do so later."""
    try:
        missing = missing_migration()
    except OperationalError as error:
        logger.warning("The database does not answer yet: %s", error)
        return
    if missing:
        raise CommandError(f"The database lacks migrations ({missing}). Run `manage.py migrate` first.")


def jobs() -> list[JobRunner]:
    return [import_string(path) for path in settings.WORKER_JOBS]


def work(jobs: Sequence[JobRunner], heartbeat: Callable[[], None] = lambda: None) -> None:
    """Call each runner in a thread of its own, again and again, with a pause when no job is due; until SIGTERM.

    A runner claims one job, runs it, and returns whether there was one: see puffer/runtime/jobs.py. `heartbeat` is
    called until the last job has ended.
    """
    stop = threading.Event()
    threads = [threading.Thread(target=run_repeatedly, args=(job, stop), daemon=True) for job in jobs]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for thread in threads:
            thread.start()
        while True:
            heartbeat()
            time.sleep(0.5)  # signal.pause() would miss a signal that arrives just before it
    except KeyboardInterrupt:
        # systemd and `serve` both send SIGTERM. The second must not interrupt the jobs that are being finished.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends at once
    stop.set()
    deadline = time.monotonic() + settings.SHUTDOWN_TIMEOUT
    while any(thread.is_alive() for thread in threads):
        heartbeat()
        if time.monotonic() > deadline:
            logger.error("Some jobs have not ended within %s s. They will be done again.", settings.SHUTDOWN_TIMEOUT)
            os._exit(1)
        for thread in threads:
            thread.join(0.5 / len(threads))


def run_repeatedly(job: JobRunner, stop: threading.Event) -> None:
    idle_polls = 0
    while not stop.is_set():
        close_old_connections()
        try:
            worked, last_pause = job(), LAST_PAUSE
        except (OperationalError, InterfaceError) as error:  # unreachable, locked or full
            logger.error("%s failed and will be called again: %s", job.__module__, str(error).strip())
            worked, last_pause = False, LAST_PAUSE_AFTER_FAILURE
        except Exception:
            logger.exception("%s failed and will be called again", job)
            worked, last_pause = False, LAST_PAUSE_AFTER_FAILURE
        idle_polls = 0 if worked else idle_polls + 1
        if idle_polls:
            stop.wait(backoff(idle_polls, FIRST_PAUSE, last_pause))
    connections.close_all()
