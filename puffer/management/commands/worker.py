import logging
import signal
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import close_old_connections, connections
from django.utils.module_loading import import_string

FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0  # seconds between two looks when there is nothing to do, doubled each time
LAST_PAUSE_AFTER_FAILURE = 30.0  # seconds, such as of the database

logger = logging.getLogger(__name__)

Job = Callable[[], bool]


class Command(BaseCommand):
    help = (
        "Do what waits in the database, such as webhooks to be sent. `serve` runs one worker; any number may run, on "
        "any machine with the same database. On SIGTERM it ends as soon as what it is doing is done."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="do what is due now, and end")

    def handle(self, *, once: bool, **options: Any) -> None:
        if not once:
            work(jobs())
            return
        while any(job() for job in jobs()):  # until none has any left: what one does may be work for another
            pass


def jobs() -> list[Job]:
    return [import_string(path) for path in settings.WORKER_JOBS]


def work(jobs: Sequence[Job]) -> None:
    """Call each, in a thread of its own, until there is nothing to do for it, and again after a pause; until SIGTERM.

    A job claims one piece of work, does it, and says whether there was any: see puffer/leases.py.
    """
    stop = threading.Event()
    threads = [threading.Thread(target=keep_at_it, args=(job, stop), daemon=True) for job in jobs]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for thread in threads:
            thread.start()
        while True:
            time.sleep(0.5)  # signal.pause() would miss one that comes just before it
    except KeyboardInterrupt:
        # systemd and `serve` both send SIGTERM. The second must not interrupt the jobs that are being finished.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stop.set()
    for thread in threads:
        thread.join()


def keep_at_it(job: Job, stop: threading.Event) -> None:
    pause = FIRST_PAUSE
    while not stop.is_set():
        close_old_connections()
        try:
            worked, last_pause = job(), LAST_PAUSE
        except Exception:
            logger.exception("%s failed; it is called again", job)
            worked, last_pause = False, LAST_PAUSE_AFTER_FAILURE
        if worked:
            pause = FIRST_PAUSE
        else:
            stop.wait(pause)
            pause = min(2 * pause, last_pause)
    connections.close_all()
