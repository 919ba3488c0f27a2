"""A source of a collection, which is read again on a schedule, and its pages."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from puffer.runtime import Job, database_now, unleased

MAX_ADDRESS = 2000  # characters
CANCELLED = "Cancelled."


class SourceQuerySet(models.QuerySet["Source"]):
    def into(self, store: str, target: str) -> "SourceQuerySet":
        return self.filter(store=store, target=target)

    def ready(self) -> "SourceQuerySet":
        """Leave out sources whose host another worker is reading for another source: a host is read politely."""
        others = Source.objects.filter(host=OuterRef("host"), leased_until__gt=database_now())
        return self.exclude(~Q(host="") & Exists(others.exclude(pk=OuterRef("pk"))))


class Source(Job):
    """A page, site, feed or folder whose documents are kept up to date in a collection.

    The job waits until the next run is due, and is done or dead if it has no schedule. Its lease keeps two workers from
    reading it at the same time. A run goes through the phases below in slices: see refresh/run.py.
    """

    class Kind(models.TextChoices):
        PAGE = "page", _("web page")
        SITE = "site", _("website")
        FEED = "feed", _("feed")
        FOLDER = "folder", _("folder on the server")

    class Schedule(models.TextChoices):
        OFF = "off", _("only when asked")
        HOURLY = "hourly", _("every hour")
        DAILY = "daily", _("every day")
        WEEKLY = "weekly", _("every week")

    class Phase(models.TextChoices):
        """What a run is doing. Empty between two runs."""

        LISTING = "listing", _("looking for pages")
        READING = "reading", _("reading pages")
        REMOVING = "removing", _("removing documents")

    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    address = models.CharField(_("address"), max_length=MAX_ADDRESS)  # a URL, or a path below SOURCES_FOLDER
    host = models.CharField(max_length=300, blank=True, editable=False)  # of the URL
    store = models.CharField(max_length=20, editable=False)  # slug
    target = models.CharField(_("collection"), max_length=200, editable=False)
    namespace = models.CharField(_("namespace"), max_length=200, blank=True)
    embedding_provider = models.CharField(max_length=20, editable=False)
    embedding_model = models.CharField(max_length=200, editable=False)
    schedule = models.CharField(
        _("schedule"),
        max_length=10,
        choices=Schedule.choices,
        default=Schedule.DAILY,
        help_text=_("How often the source is checked for changes. Only changed pages are embedded again."),
    )
    max_pages = models.PositiveIntegerField(
        _("maximum pages"),
        default=2000,
        validators=[MinValueValidator(1), MaxValueValidator(50_000)],
        help_text=_("For websites, feeds and folders. Further pages are left out."),
    )
    max_depth = models.PositiveSmallIntegerField(
        _("maximum clicks"),
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(20)],
        help_text=_("For websites without a sitemap: how many links away from the address a page may be."),
    )
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
        verbose_name=_("added by"),
    )
    created_at = models.DateTimeField(_("added"), auto_now_add=True)
    is_approved = models.BooleanField(default=False, editable=False)  # False: only list the pages, for the preview
    is_cancelled = models.BooleanField(default=False, editable=False)
    # Written by the worker:
    run = models.PositiveIntegerField(default=0, editable=False)  # the number of the latest run
    phase = models.CharField(max_length=10, choices=Phase.choices, blank=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)  # of the latest run
    bytes_read = models.PositiveBigIntegerField(default=0, editable=False)  # in the latest run
    sitemap = models.CharField(max_length=MAX_ADDRESS, blank=True, editable=False)  # of a site; "": follow its links
    is_listing_complete = models.BooleanField(default=False, editable=False)  # all pages are known
    has_held_removals = models.BooleanField(default=False, editable=False)  # a person must confirm them
    notes = models.JSONField(default=list, editable=False)  # place and text of the first ones
    # The pages of the latest run, by what became of them:
    new = models.PositiveIntegerField(_("new"), default=0, editable=False)
    changed = models.PositiveIntegerField(_("changed"), default=0, editable=False)
    unchanged = models.PositiveIntegerField(_("unchanged"), default=0, editable=False)
    left_out = models.PositiveIntegerField(_("left out"), default=0, editable=False)
    failed = models.PositiveIntegerField(_("failed"), default=0, editable=False)
    removed = models.PositiveIntegerField(_("removed"), default=0, editable=False)

    objects = SourceQuerySet.as_manager()

    class Meta(Job.Meta):
        verbose_name = _("source")
        verbose_name_plural = _("sources")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.address

    def save(self, *args: Any, **options: Any) -> None:
        if self.kind != self.Kind.FOLDER:
            self.host = (urlsplit(self.address).hostname or "")[:300]
        super().save(*args, **options)

    @property
    def interval(self) -> timedelta | None:
        """Return the time between two runs; None if the source is read only when asked."""
        return INTERVALS.get(self.schedule) if self.is_approved else None

    @property
    def next_run_at(self) -> datetime | None:
        return self.due_at if self.interval and self.state == Job.State.WAITING and not self.phase else None

    @property
    def is_crawled(self) -> bool:
        return self.kind == self.Kind.SITE and not self.sitemap

    @property
    def is_busy(self) -> bool:
        """Return whether a run is under way or about to begin."""
        return self.state == Job.State.WAITING and (bool(self.phase) or self.due_at <= timezone.now())

    def refresh(self) -> None:
        """Run as soon as a worker is free; a run that is under way continues now."""
        if not self.is_running:
            self.is_cancelled = False
            self.save(update_fields=["is_cancelled"])
            self.restart()

    def approve(self) -> None:
        """End the preview, and store the pages in a new run."""
        self.is_approved, self.is_cancelled, self.phase = True, False, ""
        self.save(update_fields=["is_approved", "is_cancelled", "phase"])
        self.restart()  # which also ends the lease of a worker that still looks for pages

    def reschedule_next(self) -> None:
        """Apply a changed schedule to a source that no run is under way for."""
        if self.is_busy or not self.is_approved:
            return
        if self.interval is None:
            idle = Job.State.DEAD if self.last_error else Job.State.DONE
            Source.objects.filter(pk=self.pk).filter(unleased()).update(state=idle)
        else:
            due_at = (self.started_at or timezone.now()) + self.interval
            Source.objects.filter(pk=self.pk).filter(unleased()).update(state=Job.State.WAITING, due_at=due_at)

    def cancel(self) -> None:
        """Stop the run. A running worker stops within seconds; what it has stored stays."""
        Source.objects.filter(pk=self.pk, state=Job.State.WAITING).update(is_cancelled=True)
        self.refresh_from_db()
        if self.is_cancelled and not self.is_running:
            Source.objects.filter(pk=self.pk).filter(unleased()).update(**self.columns_after_run(CANCELLED), lease="")

    def stop(self) -> None:
        """End the run and the schedule, before the source is deleted. A running worker loses its lease."""
        Source.objects.filter(pk=self.pk).update(state=Job.State.DONE, phase="", lease="", leased_until=None)

    def columns_after_run(self, error: str) -> dict[str, Any]:
        """Return the columns of a source whose run has ended: it waits for the next one, if it has a schedule."""
        now = timezone.now()
        columns: dict[str, Any] = {"phase": "", "is_cancelled": False, "attempts": 0, "ended_at": now}
        if self.interval is None:
            state = Job.State.DEAD if error else Job.State.DONE
            return {**columns, "state": state, "last_error": error}
        due_at = max(now + MIN_PAUSE, (self.started_at or now) + self.interval)
        return {**columns, "state": Job.State.WAITING, "due_at": due_at, "last_error": error}

    def end_run(self, error: str = "") -> None:
        """End the run of the worker that holds the lease. Raise LeaseLost."""
        self.write(**self.columns_after_run(error), lease="", leased_until=None)

    @transaction.atomic
    def confirm_removals(self) -> int:
        """Let the next run, which begins now, remove the documents of all vanished pages. Return their number."""
        vanished = self.pages.filter(state=SourcePage.State.VANISHED)
        count = vanished.update(state=SourcePage.State.REMOVING)
        self.has_held_removals = False
        self.save(update_fields=["has_held_removals"])
        self.refresh()
        return count

    def count_outcomes(self) -> dict[str, int]:
        """Return the number of pages that the latest run has read, by outcome."""
        read = self.pages.filter(read_run=self.run).exclude(outcome="").values_list("outcome")
        counted = dict(read.annotate(count=Count("pk")).order_by())
        return {outcome: counted.get(outcome, 0) for outcome in SourcePage.Outcome.values}


INTERVALS = {
    Source.Schedule.HOURLY.value: timedelta(hours=1),
    Source.Schedule.DAILY.value: timedelta(days=1),
    Source.Schedule.WEEKLY.value: timedelta(weeks=1),
}
MIN_PAUSE = timedelta(minutes=10)  # after a run that took longer than the interval


class SourcePage(models.Model):
    """A page or file of a source: how it was read last, and what is stored of it."""

    class State(models.TextChoices):
        FOUND = "found", _("found")  # not read yet
        STORED = "stored", _("stored")
        VARIANT = "variant", _("same as another page")
        LEFT_OUT = "left_out", _("left out")
        FAILED = "failed", _("failed")  # documents of an earlier version stay
        VANISHED = "vanished", _("vanished")  # its documents stay until they may be removed
        REMOVING = "removing", _("being removed")

    class Outcome(models.TextChoices):
        """What the latest run that has read the page found."""

        NEW = "new", _("new")
        CHANGED = "changed", _("changed")
        UNCHANGED = "unchanged", _("unchanged")
        LEFT_OUT = "left_out", _("left out")
        FAILED = "failed", _("failed")

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="pages", verbose_name=_("source"))
    address = models.CharField(_("address"), max_length=MAX_ADDRESS)  # a URL, or a path within the folder
    key = models.CharField(max_length=64)  # hash of the address: long texts cannot be indexed
    depth = models.PositiveSmallIntegerField(default=0)  # links away from the source's address
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.FOUND)
    outcome = models.CharField(_("last change"), max_length=10, choices=Outcome.choices, blank=True)
    error = models.TextField(_("reason"), blank=True)
    etag = models.CharField(max_length=500, blank=True)  # of a file: its time and size
    last_modified = models.CharField(max_length=100, blank=True)
    content_hash = models.CharField(max_length=64, blank=True)  # of the ids and hashes of its documents
    documents = models.PositiveIntegerField(_("documents"), default=0)  # stored
    links = models.JSONField(default=list)  # primary keys of the pages that it links to, in a crawl
    listed_run = models.PositiveIntegerField(default=0)  # the latest run that has listed it
    read_run = models.PositiveIntegerField(default=0)  # the latest run that has read it
    missed = models.PositiveSmallIntegerField(default=0)  # complete lists in a row without it
    checked_at = models.DateTimeField(_("checked"), null=True)
    changed_at = models.DateTimeField(_("changed at"), null=True)

    class Meta:
        verbose_name = _("page")
        verbose_name_plural = _("pages")
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="unique_source_page")]
        ordering = ["id"]
        default_permissions = ()  # pages use the permissions of sources

    def __str__(self) -> str:
        return self.address


def key_of(address: str) -> str:
    return hashlib.sha256(address.encode(errors="replace")).hexdigest()


def pages_at(source: Source, addresses: Sequence[str]) -> "models.QuerySet[SourcePage]":
    return source.pages.filter(key__in=[key_of(address) for address in addresses])
