"""What `serve`, and a command that needs it, runs beside itself: the bundled model, where it is installed."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.conf import settings

from providers import local_process
from providers.local_model import installed

logger = logging.getLogger(__name__)


@contextmanager
def bundled_model() -> Iterator[None]:
    """While the block runs the provider `local` answers, in this process and the workers that it starts.

    A server without it is of use too: if it is not installed or does not start, the log says so and that is all.
    """
    local = settings.PROVIDER_ENVIRONMENT.setdefault("local", {})
    if not installed() or local.get("base_url"):  # none, or one that runs already
        yield
        return
    with ExitStack() as stack:
        try:
            base_url = stack.enter_context(local_process.running())
        except RuntimeError:
            logger.exception("the bundled model does not start")
        else:
            os.environ["LOCAL_MODEL_URL"] = base_url  # for the workers, which read the settings anew
            local["base_url"] = base_url
            stack.callback(forget_address)
        yield


def forget_address() -> None:
    del os.environ["LOCAL_MODEL_URL"]
    settings.PROVIDER_ENVIRONMENT["local"]["base_url"] = ""
