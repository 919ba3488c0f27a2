"""Work of a starting server process in the background, such as loading what the first requests need."""

import logging
import threading
import time

from django.conf import settings
from django.db import connections
from django.utils.module_loading import import_string

READY_SECONDS = 3.0  # for which readiness waits for this work at most

logger = logging.getLogger(__name__)

_thread: threading.Thread | None = None
_began_at = 0.0  # time.monotonic()


def begin() -> None:
    """Start a thread that runs settings.AT_STARTUP. It ends with the process."""
    global _thread, _began_at
    _began_at = time.monotonic()
    _thread = threading.Thread(target=_run, name="startup", daemon=True)
    _thread.start()


def delays_readiness() -> bool:
    return _thread is not None and _thread.is_alive() and time.monotonic() - _began_at < READY_SECONDS


def _run() -> None:
    try:
        for path in settings.AT_STARTUP:
            import_string(path)()
    except Exception:  # the first requests do the work
        logger.exception("The preparation of this server process failed.")
    finally:
        connections.close_all()
