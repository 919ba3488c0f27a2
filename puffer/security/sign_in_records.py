"""Delete records of sign-ins: failures that no longer count, outdated records, and the oldest of too many failures."""

from datetime import timedelta

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.utils import timezone

from puffer.runtime import Periodic, delete_batch
from puffer.security.admin_sessions import SessionStore

RECORD_DAYS = 180  # for which sign-ins and failed sign-ins are kept
MAX_FAILURES = 10_000  # the newest that are kept

_cleaning = Periodic(every_seconds=3600)


def run_due() -> bool:
    """Delete outdated records, as one of settings.WORKER_JOBS. Return True if there may be more."""
    if not _cleaning.is_due():
        return False
    is_full = clean()
    if not is_full:
        _cleaning.restart()
        SessionStore.clear_expired()
    return is_full


def clean() -> bool:
    """Delete a batch of each kind of record, so that others can write. Return whether a batch was full."""
    now = timezone.now()
    outdated = now - timedelta(days=RECORD_DAYS)
    newest_first = AccessFailureLog.objects.order_by("-pk").values_list("pk", flat=True)
    surplus = newest_first[MAX_FAILURES : MAX_FAILURES + 1]
    batches = [
        AccessAttempt.objects.filter(attempt_time__lt=now - settings.AXES_COOLOFF_TIME),
        AccessLog.objects.filter(attempt_time__lt=outdated),
        AccessFailureLog.objects.filter(attempt_time__lt=outdated),
        AccessFailureLog.objects.filter(pk__lte=max(surplus, default=0)),
    ]
    return any(delete_batch(rows) for rows in batches)
