"""Starts and ends the process of the bundled models: `with running() as base_url: ...`"""

import http.client
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .local_model import MISSING, installed

START_SECONDS = 60
STOP_SECONDS = 10
FIRST_DELAY, LAST_DELAY = 1, 30  # seconds before a process that died is started again, doubled each time

log = logging.getLogger(__name__)


@contextmanager
def running() -> Iterator[str]:
    """The base URL of the bundled models, which answer there until the block is left.

    Raises RuntimeError with the process's last words if it can't be started.
    """
    if not installed():
        raise RuntimeError(MISSING)
    # We keep the listening socket, so a process that died gets its port back, and who connects meanwhile just waits.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        local = LocalProcess(listener)
        local.start()
        try:
            local.wait_until_healthy()
            local.watcher.start()
            yield f"http://127.0.0.1:{local.port}"
        finally:
            local.stop()


class LocalProcess:
    def __init__(self, listener: socket.socket):
        self.listener = listener
        self.port = listener.getsockname()[1]
        self.stopping = threading.Event()
        self.lock = threading.Lock()  # between a start by keep_alive and stop
        self.process: subprocess.Popen[str]
        self.watcher = threading.Thread(target=self.keep_alive, name="local-model", daemon=True)

    def start(self) -> None:
        with self.lock:
            if self.stopping.is_set():
                return
            fd = self.listener.fileno()
            self.process = subprocess.Popen(  # noqa: S603  our own module, no shell
                [sys.executable, "-m", "providers.local_model", f"--fd={fd}", f"--parent={os.getpid()}"],
                cwd=Path(__file__).parent.parent,
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then stops us in order
            )

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.is_healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                output, _ = self.process.communicate()
                last_lines = "\n".join(output.splitlines()[-20:])
                raise RuntimeError(f"The local model did not start (exit {self.process.returncode}):\n{last_lines}")
            time.sleep(0.05)

    def is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def keep_alive(self) -> None:
        """Log what the process says, and start it again whenever it ends, until stop()."""
        delay = FIRST_DELAY
        while not self.stopping.is_set():
            started = time.monotonic()
            with self.process as process:
                for line in process.stdout or ():
                    log.warning("%s", line.rstrip())
            if time.monotonic() - started > 2 * LAST_DELAY:
                delay = FIRST_DELAY
            while not self.stopping.wait(delay):
                log.error("The local model ended (exit %s) and is started again.", process.returncode)
                delay = min(2 * delay, LAST_DELAY)
                try:
                    self.start()
                    break
                except OSError as error:  # no memory left for another process
                    log.error("The local model could not be started: %s", error)

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
