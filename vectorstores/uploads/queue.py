"""Queue uploads of the admin, and index them in a worker.

    content -> sandbox: documents -> sync: new and changed documents -> the collection

If a worker is killed, its lease expires and another worker continues: it skips the documents that our records list as
stored.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from tempfile import TemporaryFile
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction

from providers.bundled_model import bundled_model
from providers.run_async import run_async
from puffer.api import ApiError
from puffer.runtime import LeaseLost, backoff, claim, in_seconds, with_heartbeat
from vectorstores.extraction import Unreadable
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.embedding import needs_configuration
from vectorstores.ingestion.rows import Note, Refused
from vectorstores.ingestion.sync import Import, read_batches
from vectorstores.models import CANCELLED, Upload, UploadContent
from vectorstores.sandbox.sandbox import read_spool
from vectorstores.sources.uploaded import origin_of
from vectorstores.uploads.reading import read_upload

LEASE_SECONDS = 30.0
MAX_TRANSIENT_FAILURES = 6
FIRST_DELAY, LAST_DELAY = 10.0, 600.0  # seconds before the next attempt
MAX_ATTEMPTS = 25  # including those of workers that were killed, perhaps by this upload
SHOWN_REFUSALS, MAX_REFUSAL = 100, 500  # refusals, characters of each
NOTHING_FOUND = "It contains no documents."
INTERNAL_ERROR = "Internal error. See the log of the worker."

logger = logging.getLogger(__name__)


class Cancelled(Exception):
    """An upload that was cancelled in the admin."""


# Queue


@transaction.atomic
def queue(
    destination: Destination,
    kind: str,
    name: str,
    data: bytes,
    user: User | None = None,
    options: Mapping[str, str] | None = None,
    document_ids: Sequence[str] = (),
) -> Upload:
    """Queue content for indexing. It replaces earlier uploads of the same name that are not stored yet."""
    upload = Upload(
        kind=kind,
        name=name,
        size=len(data),
        added_by=user,
        options=options or {},
        document_ids=document_ids,
        **asdict(destination),
    )
    if kind != Upload.Kind.QUESTIONS:
        earlier = Upload.objects.versions_of(upload)
        for other in earlier.filter(state=Upload.State.WAITING):
            other.cancel()
        UploadContent.objects.filter(upload__in=earlier).delete()  # a retry would restore the old version
    upload.save()
    UploadContent.objects.create(upload=upload, data=data)
    return upload


# Index


def run_due() -> bool:
    """Index one waiting upload and return True, or return False if none waits. One of settings.WORKER_JOBS."""
    upload = claim(Upload.objects.ready_to_index(), LEASE_SECONDS)
    if upload is None:
        return False
    try:
        index(upload)
    except LeaseLost:
        logger.warning("upload %s was taken over by another worker or restarted", upload.pk)
    return True


def index(upload: Upload) -> None:
    """Index an upload whose lease we hold, and record the result. Raise LeaseLost."""
    indexing = Indexing(upload)
    try:
        if upload.is_cancelled:
            raise Cancelled
        if upload.attempts > MAX_ATTEMPTS:
            raise Unreadable(f"Indexing failed: {MAX_ATTEMPTS} workers stopped during it. See the log of the worker.")
        with bundled_model() if upload.embedding_provider == "local" else nullcontext():
            run_async(indexing.run)
    except LeaseLost:
        raise
    except Cancelled:
        upload.fail(CANCELLED, **indexing.result())
    except Unreadable as error:
        upload.fail(str(error), **indexing.result())
    except ApiError as error:
        indexing.fail(error.message, is_transient(error))
    except Exception:
        logger.exception("upload %s could not be indexed", upload.pk)
        indexing.fail(INTERNAL_ERROR, is_transient=True)


def is_transient(error: ApiError) -> bool:
    """Return whether a retry may succeed without a change of the settings or of the upload."""
    return error.status in (408, 429) or (error.status >= 500 and not needs_configuration(error))


@dataclass
class Indexing:
    """One attempt to index an upload."""

    upload: Upload
    chunks: int | None = None
    refused: int = 0
    refusals: list[dict[str, str]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        upload = self.upload
        self.destination = Destination(
            upload.store, upload.target, upload.embedding_provider, upload.embedding_model, upload.namespace
        )
        self.import_run = Import(self.destination, lambda report: None, self.add_refusal, on_note=self.add_note)

    async def run(self) -> None:
        """Index the upload while extending its lease. Raise the error that ends either of them."""
        await with_heartbeat(self.store(), self.heartbeat)
        await sync_to_async(self.finish)()

    async def store(self) -> None:
        with TemporaryFile() as spool:
            await self.read_into(spool)
            await self.import_run.store(read_batches(read_spool(spool)))
        if self.upload.kind == Upload.Kind.FILE and self.import_run.report.is_complete:
            # Remove the rows of an earlier file of this name that this file no longer has.
            await self.import_run.prune([origin_of(self.upload.kind, self.upload.name)])

    async def read_into(self, spool: Any) -> None:
        content = await UploadContent.objects.filter(upload=self.upload).afirst()
        if content is None:
            raise Unreadable("Its content was deleted. Upload it again.")
        stop = threading.Event()
        upload, data = self.upload, bytes(content.data)
        try:
            self.chunks = await asyncio.to_thread(
                read_upload,
                spool,
                upload.kind,
                upload.name,
                data,
                self.destination,
                stop,
                options=upload.options,
            )
        finally:
            stop.set()

    def add_refusal(self, refused: Refused) -> None:
        self.refused += 1
        if len(self.refusals) < SHOWN_REFUSALS:
            self.refusals.append({"place": refused.place[:MAX_REFUSAL], "reason": refused.reason[:MAX_REFUSAL]})

    def add_note(self, note: Note) -> None:
        if len(self.notes) < SHOWN_REFUSALS:
            self.notes.append({"place": note.place[:MAX_REFUSAL], "text": note.text[:MAX_REFUSAL]})

    def heartbeat(self) -> None:
        """Extend the lease and write the progress. Raise LeaseLost, and Cancelled if the upload was cancelled."""
        self.upload.write(leased_until=in_seconds(LEASE_SECONDS), **self.progress())
        if Upload.objects.filter(pk=self.upload.pk, is_cancelled=True).exists():
            raise Cancelled

    def progress(self) -> dict[str, Any]:
        report = self.import_run.report
        return {
            "documents": report.documents + report.unchanged,
            "chunks": self.chunks,
            "chunks_done": report.chunks + report.unchanged_chunks,
            "refused": self.refused,
        }

    def result(self) -> dict[str, Any]:
        return {**self.progress(), "refusals": self.refusals, "notes": self.notes}

    @transaction.atomic
    def finish(self) -> None:
        """Record the end of the attempt. The content is kept for a retry if some of it was refused."""
        result = self.result()
        if not result["documents"]:
            reasons = [f"{refusal['place']}: {refusal['reason']}" for refusal in self.refusals]
            reasons += [f"{note['place']}: {note['text']}" for note in self.notes]
            self.upload.fail(reasons[0] if reasons else NOTHING_FOUND, **result)
            return
        self.upload.finish(**result)
        if not self.refused:
            UploadContent.objects.filter(upload=self.upload).delete()

    def fail(self, error: str, is_transient: bool) -> None:
        attempts = self.upload.attempts
        if is_transient and attempts < MAX_TRANSIENT_FAILURES:
            self.upload.reschedule(backoff(attempts, FIRST_DELAY, LAST_DELAY, factor=3), error, **self.result())
        else:
            self.upload.fail(error, **self.result())
