"""Settings for `serve` on a machine that has no memory for the worker's process at first."""

import errno
import os

from puffer.settings import *  # noqa: F403

failures = {"forks": 0}
fork = os.fork


def fork_or_fail() -> int:
    """Fail for the third and fourth process: the first two are servers."""
    failures["forks"] += 1
    if failures["forks"] in (3, 4):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    return fork()


os.fork = fork_or_fail
