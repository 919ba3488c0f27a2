"""Refresh the sources that are due: claim one, work on it for a slice of its run, and give it back."""

import logging
from contextlib import nullcontext

from providers.bundled_model import bundled_model
from providers.run_async import run_async
from puffer.api import ApiError
from puffer.runtime import LeaseLost, backoff, claim
from vectorstores.ingestion.embedding import needs_configuration
from vectorstores.refresh.listing import ListingFailed
from vectorstores.refresh.models import CANCELLED, Source
from vectorstores.refresh.run import LEASE_SECONDS, Cancelled, SiteSilent, Slice

MAX_FAILURES = 6  # attempts in a row without progress, after which the run ends
MAX_ATTEMPTS = 25  # including those of workers that were killed, perhaps by this source
FIRST_DELAY, LAST_DELAY = 10.0, 600.0  # seconds before the next attempt
INTERNAL_ERROR = "Internal error. See the log of the worker."

logger = logging.getLogger(__name__)


def run_due() -> bool:
    """Work on one source that is due and return True; return False if none is. One of settings.WORKER_JOBS."""
    source = claim(Source.objects.ready(), LEASE_SECONDS)
    if source is None:
        return False
    work_on(source)
    return True


def work_on(source: Source) -> None:
    """Work on a source whose lease we hold for a slice of its run, and record the result."""
    try:
        refresh(source)
    except LeaseLost:
        logger.warning("source %s was taken over by another worker, restarted or deleted", source.pk)


def refresh(source: Source) -> None:
    """Work on a source for a slice. Raise LeaseLost."""
    try:
        if source.is_cancelled:
            raise Cancelled
        if source.attempts > MAX_ATTEMPTS:
            raise ListingFailed(f"{MAX_ATTEMPTS} workers stopped during it. See the log of the worker.")
        part = Slice(source)
        needs_model = source.is_approved and part.destination.embedding_provider == "local"
        with bundled_model() if needs_model else nullcontext():
            run_async(part.run)
    except LeaseLost:
        raise
    except Cancelled:
        source.end_run(CANCELLED)
    except ListingFailed as error:
        fail(source, str(error), error.is_transient)
    except SiteSilent as error:
        fail(source, str(error), is_transient=True)
    except ApiError as error:
        fail(source, error.message, is_transient(error))
    except Exception:
        logger.exception("source %s could not be refreshed", source.pk)
        fail(source, INTERNAL_ERROR, is_transient=True)
    else:
        if part.is_over:
            source.end_run()
        else:
            source.reschedule(0, attempts=0)


def is_transient(error: ApiError) -> bool:
    return error.status in (408, 429) or (error.status >= 500 and not needs_configuration(error))


def fail(source: Source, error: str, is_transient: bool) -> None:
    """Continue the run later if that may help, otherwise end it. What is stored stays. A preview is never retried."""
    if is_transient and source.is_approved and source.attempts < MAX_FAILURES:
        source.reschedule(backoff(source.attempts, FIRST_DELAY, LAST_DELAY, factor=3), error)
    else:
        source.end_run(error)
