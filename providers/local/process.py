"""Start and stop the process of the bundled models: `with running() as address: ...`"""

import http.client
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from providers.local.engines import MISSING, TOKEN_VARIABLE, installed
from puffer.runtime import ChildProcess

START_SECONDS = 60


class Address(NamedTuple):
    """The URL of the bundled models, and the API key of this start."""

    url: str
    token: str


@contextmanager
def running() -> Iterator[Address]:
    """Yield the address of the bundled models, which run until the block ends.

    Raise RuntimeError with the process's last output if it does not start.
    """
    if not installed():
        raise RuntimeError(MISSING)
    # The parent keeps the listening socket, so a restarted process gets the same port, and connections wait meanwhile.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        local = LocalProcess(listener)
        local.start()
        try:
            local.wait_until_healthy()
            local.watcher.start()
            yield Address(f"http://127.0.0.1:{local.port}", local.token)
        finally:
            local.stop()


class LocalProcess(ChildProcess):
    def __init__(self, listener: socket.socket):
        self.port = listener.getsockname()[1]
        fd = listener.fileno()
        arguments = ["-m", "providers.local.server", f"--fd={fd}", f"--parent={os.getpid()}"]
        self.token = secrets.token_urlsafe(32)
        super().__init__("local model", arguments, pass_fds=[fd], variables={TOKEN_VARIABLE: self.token})

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
            connection.request("GET", "/health", headers={"Authorization": f"Bearer {self.token}"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
