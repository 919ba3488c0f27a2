"""What is uploaded in the admin is queued, and a worker indexes it.

    content -> read apart: documents -> those that are new or changed -> the collection

A worker that is killed leaves its lease behind, and another takes the upload up: what is stored by then is known by our
records of documents and skipped, the rest is stored.
"""

import asyncio
import logging
import threading
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from tempfile import TemporaryFile
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from providers.local import bundled_model
from providers.run_async import run_async
from puffer.api import ApiError
from puffer.runtime import LeaseLost, backoff, claim, with_heartbeat
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.embedding import needs_configuration
from vectorstores.ingestion.extract import Unreadable
from vectorstores.ingestion.rows import Refused
from vectorstores.ingestion.sync import Import, read_batches
from vectorstores.models import CANCELLED, Upload, UploadContent
from vectorstores.sources.uploaded import origin_of
from vectorstores.uploads.sandbox import read_apart, spooled

LEASE_SECONDS = 30.0
MAX_TRIES = 6  # after failures that may pass
FIRST_DELAY, LAST_DELAY = 10.0, 600.0  # seconds before the next attempt
MAX_ATTEMPTS = 25  # also those of workers that were killed: perhaps by this very upload
SHOWN_REFUSALS, MAX_WORDS = 100, 500
OUR_FAULT = "Something went wrong here; the log of the worker has it."

logger = logging.getLogger(__name__)


class Cancelled(Exception):
    pass


# In


@transaction.atomic
def queue(destination: Destination, kind: str, name: str, data: bytes, user: User | None = None) -> Upload:
    """To be indexed. An earlier upload of the same name that is not stored yet gives way."""
    upload = Upload(kind=kind, name=name, size=len(data), added_by=user, **asdict(destination))
    if kind != Upload.Kind.QUESTIONS:
        earlier = Upload.objects.versions_of(upload)
        for other in earlier.filter(state=Upload.State.WAITING):
            other.cancel()
        UploadContent.objects.filter(upload__in=earlier).delete()  # to try it again would bring back what was replaced
    upload.save()
    UploadContent.objects.create(upload=upload, data=data)
    return upload


# Done by a worker


def run_due() -> bool:
    """Index one upload, if any waits."""
    upload = claim(Upload.objects.ready_to_index(), LEASE_SECONDS)
    if upload is None:
        return False
    try:
        index(upload)
    except LeaseLost:
        logger.warning("upload %s was taken up by another worker, or started anew", upload.pk)
    return True


def index(upload: Upload) -> None:
    """Store it, or write down why not. Raises LeaseLost."""
    indexing = Indexing(upload)
    try:
        if upload.is_cancelled:
            raise Cancelled
        if upload.attempts > MAX_ATTEMPTS:
            raise Unreadable(f"Workers have ended {MAX_ATTEMPTS} times while they were at it.")
        with bundled_model() if upload.embedding_provider == "local" else nullcontext():
            run_async(indexing.run)
    except LeaseLost:
        raise
    except Cancelled:
        upload.fail(CANCELLED, **indexing.result())
    except Unreadable as error:
        upload.fail(str(error), **indexing.result())
    except ApiError as error:
        indexing.fail(error.message, may_pass(error))
    except Exception:
        logger.exception("upload %s could not be indexed", upload.pk)
        indexing.fail(OUR_FAULT, True)


def may_pass(error: ApiError) -> bool:
    """Not what only a change of the settings or of the upload would mend."""
    return error.status in (408, 429) or (error.status >= 500 and not needs_configuration(error))


@dataclass
class Indexing:
    """One try of an upload."""

    upload: Upload
    chunks: int | None = None
    refused: int = 0
    refusals: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        upload = self.upload
        self.destination = Destination(
            upload.store, upload.target, upload.embedding_provider, upload.embedding_model, upload.namespace
        )
        self.work = Import(self.destination, lambda report: None, self.refuse)

    async def run(self) -> None:
        """Store it while its lease is held. Raises whatever ended that."""
        await with_heartbeat(self.store(), self.show_life)
        await sync_to_async(self.finish)()

    async def store(self) -> None:
        with TemporaryFile() as spool:
            await self.read_into(spool)
            await self.work.store(read_batches(spooled(spool)))
        if self.upload.kind == Upload.Kind.FILE and self.work.report.is_complete:
            # Rows that an earlier file of this name had and this one has not.
            await self.work.prune([origin_of(self.upload.kind, self.upload.name)])

    async def read_into(self, spool: Any) -> None:
        content = await UploadContent.objects.filter(upload=self.upload).afirst()
        if content is None:
            raise Unreadable("Its content is gone.")
        stop = threading.Event()
        upload, data = self.upload, bytes(content.data)
        try:
            self.chunks = await asyncio.to_thread(
                read_apart, spool, upload.kind, upload.name, data, self.destination, stop
            )
        finally:
            stop.set()

    def refuse(self, refused: Refused) -> None:
        self.refused += 1
        if len(self.refusals) < SHOWN_REFUSALS:
            self.refusals.append({"place": refused.place[:MAX_WORDS], "reason": refused.reason[:MAX_WORDS]})

    def show_life(self) -> None:
        """Hold the lease, and tell how far it has come. Raises LeaseLost, and Cancelled once somebody wants that."""
        self.upload.write(leased_until=timezone.now() + timedelta(seconds=LEASE_SECONDS), **self.progress())
        if Upload.objects.filter(pk=self.upload.pk, is_cancelled=True).exists():
            raise Cancelled

    def progress(self) -> dict[str, Any]:
        report = self.work.report
        return {
            "documents": report.documents + report.unchanged,
            "chunks": self.chunks,
            "chunks_done": report.chunks + report.unchanged_chunks,
            "refused": self.refused,
        }

    def result(self) -> dict[str, Any]:
        return {**self.progress(), "refusals": self.refusals}

    @transaction.atomic
    def finish(self) -> None:
        """Its content is kept if something of it was refused, for another try."""
        result = self.result()
        if self.refused and not result["documents"]:
            first = self.refusals[0]
            self.upload.fail(f"{first['place']}: {first['reason']}", **result)
            return
        self.upload.finish(**result)
        if not self.refused:
            UploadContent.objects.filter(upload=self.upload).delete()

    def fail(self, words: str, may_pass: bool) -> None:
        tries = self.upload.attempts
        if may_pass and tries < MAX_TRIES:
            self.upload.reschedule(backoff(tries, FIRST_DELAY, LAST_DELAY, factor=3), words, **self.result())
        else:
            self.upload.fail(words, **self.result())
