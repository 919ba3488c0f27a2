"""Claim documents before they are embedded, so that imports at the same time share the work.

    claim() -> embed and store -> the Document row is written and the claim released in one transaction

An import holds one lease, which a heartbeat extends. When the import is killed, its lease ends and others take over its
claims. An import that was only paused for longer than its lease may store a document a second time.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Collection, Iterable, Sequence
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.db import DatabaseError, transaction

from puffer.runtime import database_now, in_seconds, with_heartbeat
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.models import MAX_TARGET, DocumentClaim, ImportRun
from vectorstores.registry import STORES

LEASE_SECONDS = 20.0
POLL_SECONDS = 0.5  # between looks at documents that another import stores
KEPT_SECONDS = 3600.0  # rows of killed imports whose documents nobody has imported since

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of a claim: documents that are now ours, and documents that other imports are storing.

    `taken_over` are the ids of documents that a killed import may have stored in part.
    """

    ours: Sequence[NewDocument]
    others: Sequence[NewDocument]
    taken_over: Collection[str]


class Claims:
    """The claims of one import."""

    def __init__(self, destination: Destination) -> None:
        self.store, self.target = destination.store, destination.target
        self.namespace = destination.namespace if STORES[destination.store].has_namespaces else ""
        self.run: ImportRun | None = None  # from the first claim on

    async def hold(self, work: Awaitable[None]) -> None:
        """Await `work` while keeping the lease of its claims, and release all of them at the end."""
        try:
            await with_heartbeat(work, self.heartbeat)
        finally:
            await sync_to_async(self.end)()

    async def claim(self, documents: Sequence[NewDocument]) -> Claimed:
        """Claim the documents that no other import has claimed. Their ids must differ."""
        return await sync_to_async(self.claim_now)(documents) if documents else Claimed([], [], [])

    async def claim_all(self, documents: Sequence[NewDocument], patience: float) -> bool:
        """Claim the documents, all at once, so that two callers never wait for each other.

        Wait up to `patience` seconds while other imports store some of them, then give up. Return whether it waited.
        """
        deadline = time.monotonic() + patience
        waited = False
        while (await self.claim(documents)).others and time.monotonic() < deadline:
            await self.release(documents)
            await asyncio.sleep(POLL_SECONDS)
            waited = True
        return waited

    async def release(self, documents: Sequence[NewDocument]) -> None:
        if documents:
            await sync_to_async(self.release_now)(documents)

    @transaction.atomic
    def claim_now(self, documents: Sequence[NewDocument]) -> Claimed:
        by_key = {self.key(document.parent_id): document for document in documents}
        keys = sorted(by_key)  # the same order in all imports: otherwise two could wait for each other
        run = self.run if self.run and ImportRun.objects.filter(pk=self.run.pk).exists() else self.start()
        DocumentClaim.objects.bulk_create([DocumentClaim(run=run, key=key) for key in keys], ignore_conflicts=True)
        here = DocumentClaim.objects.filter(key__in=keys)
        taken_over: set[str] = set()
        ended = ImportRun.objects.filter(leased_until__lte=database_now()).exclude(pk=run.pk)
        if dead := list(ended.values_list("pk", flat=True)):
            abandoned = here.filter(run__in=dead).order_by("key").select_for_update()
            taken_over = {by_key[claim.key].parent_id for claim in abandoned}
            if taken_over:
                here.filter(run__in=dead).update(run=run)
        mine = set(here.filter(run=run).values_list("key", flat=True))
        ours = [document for key, document in by_key.items() if key in mine]
        others = [document for key, document in by_key.items() if key not in mine]
        return Claimed(ours, others, taken_over)

    def release_now(self, documents: Iterable[NewDocument]) -> None:
        keys = [self.key(document.parent_id) for document in documents]
        if self.run:
            self.run.claims.filter(key__in=keys).delete()

    def start(self) -> ImportRun:
        ImportRun.objects.filter(leased_until__lt=in_seconds(-KEPT_SECONDS)).delete()
        self.run = ImportRun.objects.create(
            store=self.store, target=self.target[:MAX_TARGET], leased_until=in_seconds(LEASE_SECONDS)
        )
        return self.run

    def heartbeat(self) -> None:
        if self.run:
            ImportRun.objects.filter(pk=self.run.pk).update(leased_until=in_seconds(LEASE_SECONDS))

    def end(self) -> None:
        try:
            if self.run:
                ImportRun.objects.filter(pk=self.run.pk).delete()
        except DatabaseError as error:  # others wait until the lease ends
            logger.warning("the claims of an import could not be released: %s", error)

    def key(self, parent_id: str) -> str:
        place = "\0".join((self.store, self.target, self.namespace, parent_id))
        return hashlib.sha256(place.encode(errors="replace")).hexdigest()
