"""Start the bundled model for `serve` and for commands that need it, if it is installed."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.conf import settings

from providers.local import process as local_process
from providers.local.engines import TOKEN_VARIABLE, installed

logger = logging.getLogger(__name__)


_lock = threading.Lock()
_model = ExitStack()
_blocks = 0  # the number of blocks that use the model now


@contextmanager
def bundled_model() -> Iterator[None]:
    """Run the bundled model during the block, for this process and the workers that it starts.

    Concurrent blocks share one model, which ends with the last block. If it is not installed or does not start, the log
    says so, and the block runs without it.
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
    if not installed() or local.get("base_url"):  # not installed, or already running
        return
    try:
        address = _model.enter_context(local_process.running())
    except RuntimeError:
        logger.exception("the bundled model did not start")
        return
    # The workers read the settings again.
    os.environ["LOCAL_MODEL_URL"], os.environ[TOKEN_VARIABLE] = address
    local["base_url"], local["api_key"] = address
    _model.callback(clear_address)


def clear_address() -> None:
    del os.environ["LOCAL_MODEL_URL"], os.environ[TOKEN_VARIABLE]
    settings.PROVIDER_ENVIRONMENT["local"].update(base_url="", api_key="")
