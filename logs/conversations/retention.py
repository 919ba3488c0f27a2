"""Deleting what was kept long enough: in small transactions, between which everybody else gets their turn."""

from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from logs.models import Conversation, UsageEvent
from puffer.runtime import Periodic

BATCH = 200  # conversations; of usage records ten times as many, for nothing hangs on them
_retention = Periodic(every_seconds=3600)
Tell = Callable[[int], object]


def days_ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


def outdated_conversations(days: int) -> QuerySet[Conversation]:
    """Those whose last message is older."""
    return Conversation.objects.filter(updated_at__lt=days_ago(days)).order_by("updated_at")


def outdated_usage(days: int) -> QuerySet[UsageEvent]:
    return UsageEvent.objects.filter(created_at__lt=days_ago(days)).order_by("created_at")


def prune(days: int, tell: Tell = lambda count: None) -> int:
    """Delete conversations, with their messages, whose last message is older. `tell` gets the number of each batch."""
    return _delete_in_batches(outdated_conversations(days), BATCH, tell)


def prune_usage(days: int, tell: Tell = lambda count: None) -> int:
    return _delete_in_batches(outdated_usage(days), 10 * BATCH, tell)


def run_due() -> bool:
    """The worker's job: a batch of what LOG_RETENTION_DAYS makes outdated, looked for once an hour."""
    if not settings.LOG_RETENTION_DAYS or not _retention.is_due():
        return False
    deleted = _delete_batch(outdated_conversations(settings.LOG_RETENTION_DAYS), BATCH)
    if not deleted:
        _retention.restart()
    return bool(deleted)


def _delete_in_batches(outdated: QuerySet, size: int, tell: Tell) -> int:
    total = 0
    while count := _delete_batch(outdated, size):
        total += count
        tell(count)
    return total


@transaction.atomic
def _delete_batch(outdated: QuerySet, size: int) -> int:
    # Locked, so that none of them goes on meanwhile; one that is locked already does go on, and is not outdated.
    ids = list(outdated.select_for_update(skip_locked=True).values_list("pk", flat=True)[:size])
    outdated.model._default_manager.filter(pk__in=ids).delete()
    return len(ids)
