"""A run of a source: list its pages, read those, store what is new or changed, and remove what has vanished.

    listing -> reading, in batches: conditional requests -> the sandbox -> sync -> the collection -> rows of the pages
            -> removing: the documents of pages that have vanished, unless too many have

A run goes on in slices, each under a lease of its own. All that it has done is in the database, so whoever claims the
source next continues, also after a kill: pages that this run has read are skipped, and a document that was stored just
before the kill is unchanged by its content hash.

A page has vanished if the server says that it was deleted or if it asks not to be indexed; if two complete lists in a
row leave it out; or if its file was deleted. The pages of a feed are asked themselves, because a feed lists only the
latest. If more than a fifth of the stored pages would vanish, nothing is removed until a person confirms it.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, TypeVar

from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from puffer.api import ApiError
from puffer.runtime import in_seconds, with_heartbeat
from vectorstores.documents import delete_documents
from vectorstores.ingestion.destination import Destination, embedding_of
from vectorstores.ingestion.rows import Refused
from vectorstores.ingestion.sync import Import, prepare, read_batches, records_in
from vectorstores.models import Document
from vectorstores.refresh.listing import Listed, Listing
from vectorstores.refresh.models import Source, SourcePage, key_of, pages_at
from vectorstores.refresh.reading import Reader, Reading
from vectorstores.sandbox.sandbox import read_spool

LEASE_SECONDS = 30.0
SLICE_SECONDS = 20.0  # after which the next batch is another slice's
BATCH_PAGES, BATCH_BYTES = 20, 4 * 1024 * 1024  # read and stored together, and bytes of their chunks
LISTED_AT_ONCE = 500
REMOVED_AT_ONCE = 100
IDS_AT_ONCE = 500
MAX_BYTES = 1024**3  # of the pages that one run fetches
MAX_TIME = timedelta(hours=6)  # of a run
SILENT_PAGES = 10  # without an answer in a row, after which the run pauses
SHOWN_NOTES = 20
MAX_ERROR = 500  # characters

WRITTEN = [  # columns of a page; add_pages() may write the others meanwhile
    *("state", "outcome", "error", "etag", "last_modified", "content_hash", "documents", "links", "read_run"),
    *("checked_at", "changed_at"),
]

Item = TypeVar("Item")
State, Outcome, Phase = SourcePage.State, SourcePage.Outcome, Source.Phase


class Cancelled(Exception):
    """A run that was cancelled in the admin."""


class SiteSilent(Exception):
    """A site that has stopped answering; the message says so."""


@dataclass
class Slice:
    """A slice of the run of a source whose lease we hold."""

    source: Source

    def __post_init__(self) -> None:
        source = self.source
        embedding = embedding_of(source.store, source.target) or (source.embedding_provider, source.embedding_model)
        self.destination = Destination(source.store, source.target, *embedding, source.namespace)
        self.deadline = time.monotonic() + SLICE_SECONDS
        self.stop = threading.Event()
        self.reader = Reader(source, self.destination, self.stop)
        self.silent_pages = 0  # in a row
        self.is_over = False

    async def run(self) -> None:
        """Work until the slice ends; then `is_over` says whether the run has ended.

        Raise Cancelled, LeaseLost, ListingFailed, SiteSilent, and the ApiErrors of the store and the provider.
        """
        try:
            await with_heartbeat(self.work(), self.heartbeat)
        finally:
            self.stop.set()

    async def work(self) -> None:
        source = self.source
        if not source.phase:
            await sync_to_async(self.begin)()
        await self.remove()  # what a person has confirmed
        if source.phase == Phase.LISTING:
            await self.list_pages()
        if not source.is_approved and not source.is_crawled:
            self.is_over = True
            return
        if source.phase == Phase.READING:
            if not await self.read_pages():
                return
            if source.is_approved:
                await sync_to_async(self.retire)()
        if source.is_approved:
            await self.remove()
        self.is_over = True

    def heartbeat(self) -> None:
        self.source.write(leased_until=in_seconds(LEASE_SECONDS))
        if Source.objects.filter(pk=self.source.pk, is_cancelled=True).exists():
            raise Cancelled

    def begin(self) -> None:
        counts = dict.fromkeys([*Outcome.values, "removed"], 0)
        source = self.source
        source.write(
            run=source.run + 1, phase=Phase.LISTING, started_at=timezone.now(), bytes_read=0, notes=[], **counts
        )

    # Listing

    async def list_pages(self) -> None:
        listing = Listing(self.source, self.stop)
        is_complete = True
        async for found in in_batches(listing.pages(), LISTED_AT_ONCE):
            is_complete = await sync_to_async(self.add_pages)(found)
            if not is_complete:
                break
        if self.source.is_approved:
            await prepare(self.destination, create=False)
        if self.source.kind == Source.Kind.FEED:
            known = self.source.pages.exclude(state=State.LEFT_OUT)
            await known.aupdate(listed_run=self.source.run)
        await sync_to_async(self.source.write)(
            phase=Phase.READING,
            sitemap=listing.sitemap,
            is_listing_complete=is_complete and not listing.problems,
            notes=[
                *self.source.notes,
                *({"place": one.place[:MAX_ERROR], "text": one.reason[:MAX_ERROR]} for one in listing.problems),
            ][:SHOWN_NOTES],
        )

    @transaction.atomic
    def add_pages(self, found: Sequence[Listed], depth: int = 0) -> bool:
        """Mark the pages as listed, and add those that are new. Return False if there are too many of them."""
        source = self.source
        source.extend(LEASE_SECONDS)
        addresses = [one.address for one in found]
        known = set(pages_at(source, addresses).values_list("address", flat=True))
        room = max(0, source.max_pages - source.pages.count())
        new = [address for address in dict.fromkeys(addresses) if address not in known]
        SourcePage.objects.bulk_create(
            [SourcePage(source=source, address=address, key=key_of(address), depth=depth) for address in new[:room]],
            ignore_conflicts=True,
        )
        pages_at(source, addresses).update(listed_run=source.run, missed=0)
        for reason in {one.refused for one in found if one.refused}:  # a stored page is read: then it vanishes
            unread = pages_at(source, [one.address for one in found if one.refused == reason]).filter(documents=0)
            unread.update(state=State.LEFT_OUT, outcome=Outcome.LEFT_OUT, error=reason, read_run=source.run)
        if len(new) > room:
            self.note(source.address, f"Only the first {source.max_pages} pages are read.")
        return len(new) <= room

    def note(self, place: str, text: str) -> None:
        note = {"place": place[:MAX_ERROR], "text": text}
        if note not in self.source.notes and len(self.source.notes) < SHOWN_NOTES:
            self.source.write(notes=[*self.source.notes, note])

    # Reading

    async def read_pages(self) -> bool:
        """Read at least one page, and pages until the slice ends. Return whether all are read."""
        while await sync_to_async(self.may_continue)():
            pages = await sync_to_async(self.next_pages)()
            if not pages:
                return True
            await self.read_batch(pages)
            if time.monotonic() > self.deadline:
                return False
        return True

    def may_continue(self) -> bool:
        """Return whether the limits allow to read further pages. Otherwise the run ends without having read all."""
        source = self.source
        is_too_long = timezone.now() - (source.started_at or timezone.now()) > MAX_TIME
        if not is_too_long and source.bytes_read <= MAX_BYTES:
            return True
        limit = f"{MAX_TIME.seconds // 3600} hours" if is_too_long else f"{MAX_BYTES // 1024**2} MB"
        self.note(source.address, f"The run ended after {limit}. The next one continues with the pages not read yet.")
        source.write(is_listing_complete=False)
        return False

    def next_pages(self) -> list[tuple[SourcePage, bool]]:
        """Return the next pages, those that were not read for the longest time first, and whether each is stored."""
        source = self.source
        waiting = source.pages.filter(listed_run=source.run).exclude(read_run=source.run)
        pages = list(waiting.order_by("depth", F("checked_at").asc(nulls_first=True), "pk")[:BATCH_PAGES])
        stored: dict[int, int] = {}
        documents = Document.objects.filter(page__in=pages, status=Document.Status.STORED)
        for page_id in documents.values_list("page_id", flat=True):
            assert page_id
            stored[page_id] = stored.get(page_id, 0) + 1
        # Someone may have deleted or replaced its documents: then it is read whatever its server says.
        return [(page, 0 < page.documents == stored.get(page.pk, 0)) for page in pages]

    async def read_batch(self, pages: Sequence[tuple[SourcePage, bool]]) -> None:
        """Read and store pages until the batch is full, then record them."""
        readings: list[Reading] = []
        owners: dict[str, int] = {}  # the ids of documents in this batch -> the keys of their pages
        with TemporaryFile() as spool:
            for page, is_stored in pages:
                start = spool.tell()
                reading = await asyncio.to_thread(self.reader.read, page, spool, is_stored=is_stored)
                if reading.named and await sync_to_async(self.is_stored_elsewhere)(reading, owners):
                    reading.is_variant = True
                    spool.truncate(spool.seek(start))
                owners |= dict.fromkeys(reading.documents, page.pk)
                readings.append(reading)
                is_silent = reading.refused is not None and reading.refused.hides_documents
                self.silent_pages = self.silent_pages + 1 if is_silent else 0
                is_full = spool.tell() > BATCH_BYTES or time.monotonic() > self.deadline
                if is_full or self.silent_pages == SILENT_PAGES:
                    break
            if self.source.is_approved:
                await self.store(spool, readings)
        await sync_to_async(self.record)(readings)
        if self.silent_pages == SILENT_PAGES:
            reason = readings[-1].refused.reason if readings[-1].refused else ""
            raise SiteSilent(f"{SILENT_PAGES} pages in a row could not be read. The last one: {reason}")

    def is_stored_elsewhere(self, reading: Reading, owners: dict[str, int]) -> bool:
        """Return whether another page has the text of this one: the one at its canonical address, or an earlier one."""
        (parent_id,) = reading.documents
        pages = self.source.pages.exclude(pk=reading.page.pk)
        if pages.filter(key=key_of(reading.named)).exclude(state=State.VANISHED).exists():
            return True
        stored = records_in(self.destination).filter(parent_vector_id=parent_id, page__in=pages)
        return owners.get(parent_id, reading.page.pk) != reading.page.pk or stored.exists()

    async def store(self, spool: IO[bytes], readings: Sequence[Reading]) -> None:
        """Store the documents in the spool, and delete what their pages no longer contain."""
        page_of = {source: reading for reading in readings for source in reading.sources}

        def refuse(refused: Refused) -> None:
            if refused.place in page_of:
                page_of[refused.place].refused = refused

        run = Import(self.destination, lambda report: None, refuse)
        await run.store(read_batches(read_spool(spool)))
        await self.delete(await sync_to_async(self.outdated)(readings))

    def outdated(self, readings: Iterable[Reading]) -> list[Document]:
        """Return the documents of earlier versions of the pages that none of the pages contains any longer."""
        read = [one for one in readings if one.documents and not one.refused]
        current = {parent_id for one in read if not one.is_variant for parent_id in one.documents}
        documents = Document.objects.filter(page__in=[one.page for one in read]).select_related("collection")
        return [document for document in documents.iterator() if document.parent_vector_id not in current]

    async def delete(self, documents: Sequence[Document]) -> None:
        """Delete documents with their vectors. Raise ApiError if a store fails."""
        if failures := await delete_documents(documents):
            raise ApiError(f"{failures[0].place}: {failures[0].reason}", status=503)

    # Recording

    @transaction.atomic
    def record(self, readings: Sequence[Reading]) -> None:
        """Record what was read. A worker without the lease records nothing."""
        source = self.source
        source.write(
            leased_until=in_seconds(LEASE_SECONDS),
            attempts=source.attempts if self.silent_pages >= len(readings) else 1,
            bytes_read=source.bytes_read + sum(reading.size for reading in readings),
        )
        for reading in readings:
            self.record_links(reading)
            self.record_page(reading)
        source.write(**source.count_outcomes())

    def record_page(self, reading: Reading) -> None:
        page, refused, now = reading.page, reading.refused, timezone.now()
        page.read_run, page.checked_at = self.source.run, now
        page.error = refused.reason[:MAX_ERROR] if refused else ""
        if reading.is_unchanged:
            page.state, page.outcome = State.STORED, Outcome.UNCHANGED
        elif reading.is_unwanted and not reading.documents:
            page.state, page.outcome = State.VANISHED if page.documents else State.LEFT_OUT, Outcome.LEFT_OUT
        elif not reading.documents:
            page.state = State.VANISHED if page.state == State.VANISHED else State.FAILED
            page.outcome = Outcome.FAILED
        elif reading.is_variant:
            page.state, page.outcome = State.VARIANT, Outcome.LEFT_OUT
            page.documents, page.content_hash, page.error = 0, "", f"Its text is stored as {reading.named[:MAX_ERROR]}."
        elif not self.source.is_approved:
            page.state = State.FOUND
        else:
            self.record_documents(reading)
        page.save(update_fields=WRITTEN)

    def record_documents(self, reading: Reading) -> None:
        page, was_stored, known_hash = reading.page, bool(reading.page.documents), reading.page.content_hash
        stored = 0
        for ids in in_parts(list(reading.documents)):
            documents = records_in(self.destination).filter(parent_vector_id__in=ids, status=Document.Status.STORED)
            stored += documents.update(page=page)
        if not stored:
            page.state, page.outcome = State.FAILED, Outcome.FAILED
            return
        is_whole = stored == len(reading.documents)
        page.documents, page.state = stored, State.STORED
        page.content_hash = reading.content_hash if is_whole else ""
        # Without them, the next run reads the page again.
        page.etag = reading.etag if is_whole else ""
        page.last_modified = reading.last_modified if is_whole else ""
        if was_stored and page.content_hash == known_hash:
            page.outcome = Outcome.UNCHANGED
        else:
            page.outcome = Outcome.CHANGED if was_stored else Outcome.NEW
            page.changed_at = page.checked_at

    def record_links(self, reading: Reading) -> None:
        """Mark the pages that this page of a crawl links to as listed. An unchanged page has the links it had."""
        source, page = self.source, reading.page
        if not source.is_crawled:
            return
        if reading.links is None:
            source.pages.filter(pk__in=page.links).update(listed_run=source.run, missed=0)
        elif page.depth < source.max_depth:
            is_complete = self.add_pages([Listed(address) for address in reading.links], page.depth + 1)
            if not is_complete and source.is_listing_complete:
                source.write(is_listing_complete=False)
            page.links = list(pages_at(source, reading.links).values_list("pk", flat=True))

    # Removing

    @transaction.atomic
    def retire(self) -> None:
        """Find the pages that have vanished, and decide whether their documents may be removed."""
        source = self.source
        allowed = {Source.Kind.SITE.value: 1, Source.Kind.FOLDER.value: 0}.get(source.kind)
        if source.is_listing_complete and allowed is not None:
            unlisted = source.pages.exclude(listed_run=source.run)
            unlisted.update(missed=F("missed") + 1)
            missing = unlisted.filter(missed__gt=allowed)
            missing.filter(documents=0).delete()
            missing.exclude(state=State.REMOVING).update(state=State.VANISHED, error="It is no longer listed.")
        vanished = source.pages.filter(state=State.VANISHED)
        too_many = vanished.count() * 5 > source.pages.filter(documents__gt=0).count()
        if not too_many:
            vanished.update(state=State.REMOVING)
        source.write(phase=Phase.REMOVING, has_held_removals=too_many)

    async def remove(self) -> None:
        """Delete the documents of the pages that may be removed, then the pages."""
        waiting = self.source.pages.filter(state=State.REMOVING).order_by("pk")
        while pages := [page async for page in waiting[:REMOVED_AT_ONCE]]:
            documents = Document.objects.filter(page__in=pages).select_related("collection")
            await self.delete([document async for document in documents])
            await sync_to_async(self.forget)(pages)

    @transaction.atomic
    def forget(self, pages: Sequence[SourcePage]) -> None:
        self.source.write(leased_until=in_seconds(LEASE_SECONDS), removed=self.source.removed + len(pages))
        SourcePage.objects.filter(pk__in=[page.pk for page in pages]).delete()


def in_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + IDS_AT_ONCE] for at in range(0, len(ids), IDS_AT_ONCE))


async def in_batches(found: Iterator[Item], size: int) -> AsyncIterator[list[Item]]:
    """Yield lists of up to `size` items, which are read in another thread."""
    while batch := await asyncio.to_thread(lambda: list(islice(found, size))):
        yield batch
