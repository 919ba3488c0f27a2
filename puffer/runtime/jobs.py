"""Work that must happen in the end: each piece is a row, and whoever does it holds a lease on the row.

    due -> claim() -> the work, with extend() while it goes on -> finish(), reschedule() or fail()
    work that takes long and is asynchronous: with_heartbeat() extends the lease beside it

A process that is killed leaves its row behind; when the lease has ended, another takes the row up. One that was only
slow finds out by LeaseLost, and must leave the rest alone. The clocks of the machines that share a database may differ
by no more than a lease is long.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections, models, router, transaction
from django.db.models import Q
from django.utils import timezone

MAX_ERROR = 2000  # characters kept of what went wrong
HEARTBEAT_SECONDS = 1.0  # between two signs of life; a lease should outlast many

logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The row is no longer ours: the lease had ended and another took it up, or somebody has started it anew."""


class Job(models.Model):
    """A piece of work. Its columns are written by claim() and by the methods below, each of which raises LeaseLost."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"  # also while it is worked on
        DONE = "done", "done"
        DEAD = "dead", "given up"

    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING, editable=False)
    due_at = models.DateTimeField(default=timezone.now, editable=False)
    lease = models.CharField(max_length=32, blank=True, editable=False, help_text="Whoever holds it knows this token.")
    leased_until = models.DateTimeField(null=True, editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False, help_text="Also those whose process was killed.")
    last_error = models.TextField(blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True
        indexes = [models.Index(fields=["state", "due_at"], name="%(app_label)s_%(class)s_due")]

    @property
    def is_running(self) -> bool:
        return self.state == self.State.WAITING and self.leased_until is not None and self.leased_until > timezone.now()

    def extend(self, seconds: float) -> None:
        """Hold the lease for so many seconds from now. To be called between steps, more often than it ends."""
        self.write(leased_until=timezone.now() + timedelta(seconds=seconds))

    def finish(self, **columns: Any) -> None:
        """It is done. `columns` are written with that. Inside a transaction with the result it is done exactly once."""
        self.end(self.State.DONE, last_error="", **columns)

    def fail(self, error: str, **columns: Any) -> None:
        self.end(self.State.DEAD, last_error=error[:MAX_ERROR], **columns)

    def reschedule(self, seconds: float, error: str = "", **columns: Any) -> None:
        """It is to be tried again then."""
        due_at = timezone.now() + timedelta(seconds=seconds)
        self.write(due_at=due_at, lease="", leased_until=None, last_error=error[:MAX_ERROR], **columns)

    def restart(self) -> None:
        """As if it had never been tried, whoever is at it. The one that needs no lease."""
        self.state, self.due_at, self.ended_at = self.State.WAITING, timezone.now(), None
        self.lease, self.leased_until, self.attempts, self.last_error = "", None, 0, ""
        self.save(update_fields=[field.name for field in Job._meta.local_fields])

    def end(self, state: str, **columns: Any) -> None:
        self.write(state=state, ended_at=timezone.now(), lease="", leased_until=None, **columns)

    def write(self, **columns: Any) -> None:
        mine = type(self)._base_manager.filter(pk=self.pk, lease=self.lease, state=self.State.WAITING)
        if not self.lease or not mine.update(**columns):
            raise LeaseLost(f"{self._meta.verbose_name} {self.pk} is no longer ours")
        for name, value in columns.items():
            setattr(self, name, value)


Row = TypeVar("Row", bound=Job)


def claim(rows: "models.QuerySet[Row]", seconds: float) -> Row | None:
    """The one of the rows that has been due for longest and that nobody works on; it is ours for so many seconds."""
    now = timezone.now()
    due = rows.filter(Q(leased_until=None) | Q(leased_until__lte=now), state=Job.State.WAITING, due_at__lte=now)
    due = due.order_by("due_at", "pk")
    if not due.exists():  # the usual case, for which no lock is taken
        return None
    database = router.db_for_write(rows.model)
    if connections[database].features.has_select_for_update_skip_locked:
        due = due.select_for_update(skip_locked=True, of=("self",))
    # SQLite: a transaction of ours begins with the lock of the one who writes, so nobody else is between the two.
    with transaction.atomic(using=database):
        row = due.using(database).first()
        if row is None:
            return None
        row.lease, row.leased_until, row.attempts = uuid.uuid4().hex, now + timedelta(seconds=seconds), row.attempts + 1
        columns = {"lease": row.lease, "leased_until": row.leased_until, "attempts": row.attempts}
        rows.model._base_manager.using(database).filter(pk=row.pk).update(**columns)
    return row


async def with_heartbeat(work: Awaitable[None], show_life: Callable[[], None]) -> None:
    """Do the work and, every second beside it, what shows life. Raises what either of them raises, and ends both."""
    working, beating = asyncio.ensure_future(work), asyncio.ensure_future(beat(show_life))
    try:
        await asyncio.wait([working, beating], return_when=asyncio.FIRST_COMPLETED)
        if beating.done():
            beating.result()
        working.result()
    finally:
        working.cancel()
        beating.cancel()
        await asyncio.gather(working, beating, return_exceptions=True)


async def beat(show_life: Callable[[], None]) -> None:
    while True:
        try:
            await sync_to_async(show_life)()
        except DatabaseError as error:  # the lease outlasts many of these
            logger.warning("no sign of life could be written: %s", error)
        await asyncio.sleep(HEARTBEAT_SECONDS)
