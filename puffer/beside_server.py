"""What `serve` runs beside itself whatever else is installed: a worker for what waits in the database."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from puffer.child_process import ChildProcess


@contextmanager
def worker() -> Iterator[None]:
    """While the block runs so does `manage.py worker`, in a process of its own."""
    child = ChildProcess("worker", ["manage.py", "worker", f"--parent={os.getpid()}"])
    child.start()
    child.watcher.start()
    try:
        yield
    finally:
        child.stop()
