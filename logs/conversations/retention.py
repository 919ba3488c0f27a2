"""Retention: delete old conversations and usage events, in small transactions that other writers can interleave."""

from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from logs.models import Conversation, UsageEvent
from puffer.runtime import Periodic

CONVERSATION_BATCH = 200
USAGE_BATCH = 2000  # usage events have no rows that depend on them
OnProgress = Callable[[int], object]

_retention = Periodic(every_seconds=3600)


def days_ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


def outdated_conversations(days: int) -> QuerySet[Conversation]:
    """Return conversations without a message in the last `days` days."""
    return Conversation.objects.filter(updated_at__lt=days_ago(days)).order_by("updated_at")


def outdated_usage(days: int) -> QuerySet[UsageEvent]:
    return UsageEvent.objects.filter(created_at__lt=days_ago(days)).order_by("created_at")


def prune(days: int, on_progress: OnProgress = lambda count: None) -> int:
    """Delete outdated conversations and return their number. Call `on_progress` with the number in each batch."""
    return _delete_in_batches(outdated_conversations(days), CONVERSATION_BATCH, on_progress)


def prune_usage(days: int, on_progress: OnProgress = lambda count: None) -> int:
    return _delete_in_batches(outdated_usage(days), USAGE_BATCH, on_progress)


def run_due() -> bool:
    """Delete a batch of outdated conversations; after the last, look again in an hour. One of settings.WORKER_JOBS."""
    if not settings.LOG_RETENTION_DAYS or not _retention.is_due():
        return False
    deleted = _delete_batch(outdated_conversations(settings.LOG_RETENTION_DAYS), CONVERSATION_BATCH)
    if not deleted:
        _retention.restart()
    return bool(deleted)


def _delete_in_batches(outdated: QuerySet, size: int, on_progress: OnProgress) -> int:
    total = 0
    while count := _delete_batch(outdated, size):
        total += count
        on_progress(count)
    return total


@transaction.atomic
def _delete_batch(outdated: QuerySet, size: int) -> int:
    # Locked, so that no turn is added meanwhile. A locked row is skipped, because a turn is being added to it.
    ids = list(outdated.select_for_update(skip_locked=True).values_list("pk", flat=True)[:size])
    outdated.model._default_manager.filter(pk__in=ids).delete()
    return len(ids)
