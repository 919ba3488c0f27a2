"""A durable job queue. Each job is a database row; the worker that runs it holds a time-limited lease.

    due -> claim() -> work, with extend() meanwhile -> finish(), reschedule(), release() or fail()
    long asynchronous work: with_heartbeat() extends the lease while it runs

When a worker is killed, its lease ends and another worker claims the row. A worker that was only slow gets LeaseLost
and must stop. Leases are counted by the clock of the database, so the clocks of the machines that share it may differ.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import DatabaseError, close_old_connections, connection, connections, models, router, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

MAX_ERROR = 2000  # characters
HEARTBEAT_SECONDS = 1.0  # a lease should outlast many heartbeats

logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """A lease that has ended: another worker claimed the job, or the job was restarted or deleted."""


class Job(models.Model):
    """A durable unit of background work. Only claim() and the methods below write its columns; all raise LeaseLost."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")  # also while it runs
        DONE = "done", _("done")
        DEAD = "dead", _("failed")

    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.WAITING, editable=False)
    due_at = models.DateTimeField(default=timezone.now, editable=False)
    lease = models.CharField(
        max_length=32, blank=True, editable=False, help_text="Token of the worker that holds the lease."
    )
    leased_until = models.DateTimeField(null=True, editable=False)
    attempts = models.PositiveIntegerField(
        _("attempts"), default=0, editable=False, help_text=_("Includes attempts whose process was killed.")
    )
    last_error = models.TextField(_("last error"), blank=True, editable=False)
    ended_at = models.DateTimeField(_("ended at"), null=True, editable=False)

    class Meta:
        abstract = True
        indexes = [models.Index(fields=["state", "due_at"], name="%(app_label)s_%(class)s_due")]

    @property
    def is_running(self) -> bool:
        return self.state == self.State.WAITING and self.leased_until is not None and self.leased_until > timezone.now()

    def extend(self, seconds: float) -> None:
        """Extend the lease to `seconds` from now. Call this between steps, before the lease ends."""
        self.write(leased_until=in_seconds(seconds))

    def finish(self, **columns: Any) -> None:
        """Mark the job as done and write `columns`. Exactly once, if in one transaction with the result."""
        self.end(self.State.DONE, last_error="", **columns)

    def fail(self, error: str, **columns: Any) -> None:
        """Mark the job as dead: it is not retried."""
        self.end(self.State.DEAD, last_error=error[:MAX_ERROR], **columns)

    def reschedule(self, seconds: float, error: str = "", **columns: Any) -> None:
        """Reschedule the job to run `seconds` from now."""
        self.write(due_at=in_seconds(seconds), lease="", leased_until=None, last_error=error[:MAX_ERROR], **columns)

    def release(self) -> None:
        """Give the job back as it was before it was claimed."""
        self.write(lease="", leased_until=None, attempts=self.attempts - 1)

    def restart(self) -> None:
        """Reset the job as if it had never run. No lease is needed; a worker that runs the job gets LeaseLost."""
        self.state, self.due_at, self.ended_at = self.State.WAITING, timezone.now(), None
        self.lease, self.leased_until, self.attempts, self.last_error = "", None, 0, ""
        self.save(update_fields=[field.name for field in Job._meta.local_fields])

    def end(self, state: str, **columns: Any) -> None:
        self.write(state=state, ended_at=timezone.now(), lease="", leased_until=None, **columns)

    def write(self, **columns: Any) -> None:
        held = type(self)._base_manager.filter(pk=self.pk, lease=self.lease, state=self.State.WAITING)
        if not self.lease or not held.update(**columns):
            raise LeaseLost(f"{self._meta.verbose_name} {self.pk} is no longer held by this worker")
        for name, value in columns.items():
            if not hasattr(value, "resolve_expression"):  # an expression's value is known to the database only
                setattr(self, name, value)


Row = TypeVar("Row", bound=Job)


def database_now() -> Any:
    """Return the time by the database's clock. SQLite's is this machine's, but has only milliseconds."""
    return timezone.now() if connection.vendor == "sqlite" else Now()


def in_seconds(seconds: float) -> Any:
    """Return the time that many seconds from now, by the database's clock."""
    return database_now() + timedelta(seconds=seconds)


def unleased() -> Q:
    """Return the condition that no worker holds a lease."""
    return Q(leased_until=None) | Q(leased_until__lte=database_now())


def due() -> Q:
    """Return the condition that a job may be claimed."""
    return unleased() & Q(state=Job.State.WAITING, due_at__lte=database_now())


def claim(rows: "models.QuerySet[Row]", seconds: float) -> Row | None:
    """Claim the job that has been due the longest, for `seconds`. Return None if none is due."""
    return next(iter(claim_many(rows, seconds, 1)), None)


def claim_many(rows: "models.QuerySet[Row]", seconds: float, count: int) -> list[Row]:
    """Claim up to `count` jobs, those that have been due the longest first, for `seconds`."""
    waiting = rows.filter(due()).order_by("due_at", "pk")
    if not waiting.exists():  # the usual case needs no lock
        return []
    database = router.db_for_write(rows.model)
    if connections[database].features.has_select_for_update_skip_locked:
        waiting = waiting.select_for_update(skip_locked=True, of=("self",))
    # `BEGIN IMMEDIATE` on SQLite: no other writer can claim the rows between SELECT and UPDATE.
    with transaction.atomic(using=database):
        claimed = list(waiting.using(database)[:count])
        lease = uuid.uuid4().hex
        rows.model._base_manager.using(database).filter(pk__in=[row.pk for row in claimed]).update(
            lease=lease, leased_until=in_seconds(seconds), attempts=F("attempts") + 1
        )
    for row in claimed:
        row.lease, row.attempts = lease, row.attempts + 1
        row.leased_until = timezone.now() + timedelta(seconds=seconds)  # nearly: the clocks may differ
    return claimed


async def with_heartbeat(work: Awaitable[None], heartbeat: Callable[[], None]) -> None:
    """Await `work` while calling `heartbeat` every HEARTBEAT_SECONDS. An error in either cancels the other."""
    working, beating = asyncio.ensure_future(work), asyncio.ensure_future(beat_forever(heartbeat))
    try:
        await asyncio.wait([working, beating], return_when=asyncio.FIRST_COMPLETED)
        if beating.done():
            beating.result()
        working.result()
    finally:
        working.cancel()
        beating.cancel()
        await asyncio.gather(working, beating, return_exceptions=True)


async def beat_forever(heartbeat: Callable[[], None]) -> None:
    while True:
        try:
            await sync_to_async(reconnect_and_call)(heartbeat)
        except DatabaseError as error:  # the lease outlasts several missed heartbeats
            logger.warning("a heartbeat could not be written: %s", error)
        await asyncio.sleep(HEARTBEAT_SECONDS)


def reconnect_and_call(heartbeat: Callable[[], None]) -> None:
    if not connection.in_atomic_block:  # which closing would roll back
        close_old_connections()  # replaces one that has failed: the work shares it and would fail until its end
    heartbeat()
