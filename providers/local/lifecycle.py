"""What `serve`, and a command that needs it, runs beside itself: the bundled model, where it is installed."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.conf import settings

from providers.local import process as local_process
from providers.local.engines import installed

logger = logging.getLogger(__name__)


_lock = threading.Lock()
_model = ExitStack()
_blocks = 0  # that are running and use it


@contextmanager
def bundled_model() -> Iterator[None]:
    """While the block runs the provider `local` answers, in this process and the workers that it starts.

    Blocks of several threads share one, which ends with the last of them. A server without it is of use too: if it is
    not installed or does not start, the log says so and that is all.
    """
    global _blocks
    with _lock:
        if not _blocks:
            start_model()
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _model.close()


def start_model() -> None:
    local = settings.PROVIDER_ENVIRONMENT.setdefault("local", {})
    if not installed() or local.get("base_url"):  # none, or one that runs already
        return
    try:
        base_url = _model.enter_context(local_process.running())
    except RuntimeError:
        logger.exception("the bundled model does not start")
        return
    os.environ["LOCAL_MODEL_URL"] = base_url  # for the workers, which read the settings anew
    local["base_url"] = base_url
    _model.callback(forget_address)


def forget_address() -> None:
    del os.environ["LOCAL_MODEL_URL"]
    settings.PROVIDER_ENVIRONMENT["local"]["base_url"] = ""
