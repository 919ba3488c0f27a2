"""A Python process that runs alongside the server and is restarted whenever it ends."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from puffer.runtime.backoff import backoff

STOP_SECONDS = 10
FIRST_DELAY, LAST_DELAY = 1, 30  # seconds before a dead process is restarted, doubled each time

log = logging.getLogger(__name__)


class ChildProcess:
    """A supervised process. `arguments` are those of the Python interpreter; its output is logged.

    Secrets belong in `variables`, which are added to its environment: any local user can read the arguments.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.pass_fds = pass_fds
        self.variables = variables or {}
        self.stopping = threading.Event()
        self.lock = threading.Lock()  # serializes stop() and a restart by keep_alive()
        self.process: subprocess.Popen[str]
        self.watcher = threading.Thread(target=self.keep_alive, name=name, daemon=True)

    def start(self) -> None:
        with self.lock:
            if self.stopping.is_set():
                return
            self.process = subprocess.Popen(  # noqa: S603  our own module, no shell
                [sys.executable, *self.arguments],
                cwd=Path(__file__).parents[2],
                env={**os.environ, **self.variables},
                pass_fds=self.pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches only the parent, which then stops this process
            )

    def keep_alive(self) -> None:
        """Log the output of the process, and restart it whenever it ends, until stop()."""
        failures = 1
        while not self.stopping.is_set():
            started = time.monotonic()
            with self.process as process:
                for line in process.stdout or ():
                    log.warning("%s", line.rstrip())
            if time.monotonic() - started > 2 * LAST_DELAY:
                failures = 1
            while not self.stopping.wait(backoff(failures, FIRST_DELAY, LAST_DELAY)):
                log.error("The %s ended (exit %s). Restarting it.", self.name, process.returncode)
                failures += 1
                try:
                    self.start()
                    break
                except OSError as error:  # for example no memory for another process
                    log.error("The %s could not be started: %s", self.name, error)

    def stop(self) -> None:
        self.stopping.set()
        with self.lock:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.watcher.is_alive():
            self.watcher.join()
