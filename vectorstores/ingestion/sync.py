"""Synchronize a collection with its sources: store only new and changed documents, remove deleted ones.

Documents are compared with our records of what is stored, so an interrupted import continues where it stopped. What
another import is storing at the same time is compared again once that import has stored it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

from asgiref.sync import sync_to_async
from django.db.models import Max, QuerySet

from logs.usage import PriceBook
from providers.tokens import tokens_of
from providers.use_cases import known_dimension
from vectorstores.base import CollectionInfo, VectorStore
from vectorstores.errors import CollectionNotFound, DimensionMismatch
from vectorstores.ingestion.claims import POLL_SECONDS, Claims
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.embedding import embed_texts
from vectorstores.ingestion.pipeline import CONCURRENCY, ingest
from vectorstores.ingestion.rows import Note, Refused
from vectorstores.models import Collection, Document, ImportRun
from vectorstores.registry import STORES, get_store
from vectorstores.stores.threads import call_store

MAX_BATCH, MAX_BATCH_CHARACTERS = 200, 1_000_000  # documents that are read, and looked up in our records, together
MAX_WAITING = 1000  # documents in memory that other imports are storing
PATIENCE = 600.0  # seconds in a row to wait out a provider's rate limit

Batches = AsyncIterator[Sequence[NewDocument | Refused | Note]]


@dataclass
class Report:
    """The counts of an import. `tokens` and `cost` (US dollars, None if unknown) are the estimates of a dry run.

    `is_complete` means that every document in the sources is known, so that missing ones can be removed.
    """

    documents: int = 0
    chunks: int = 0
    unchanged: int = 0
    unchanged_chunks: int = 0
    pruned: int = 0
    refused: int = 0
    left_out: int = 0
    tokens: int = 0
    cost: Decimal | None = None
    is_complete: bool = True


@dataclass
class Import:
    """One run of an import.

    Calls `on_progress` after each step, `on_refused` for everything that cannot be stored, `on_note` for each other
    message to users, and `on_wait` with the number of documents that another import is about to store.
    """

    destination: Destination
    on_progress: Callable[[Report], None]
    on_refused: Callable[[Refused], None]
    batch_size: int | None = None
    concurrency: int = CONCURRENCY
    refresh: bool = False  # store documents whose content has not changed, too
    on_note: Callable[[Note], None] = lambda note: None
    on_wait: Callable[[int], None] = lambda documents: None

    def __post_init__(self) -> None:
        self.report = Report()
        # Python's hashes of ids and content hashes: they fit in memory for any number of documents.
        self.seen: dict[int, int] = {}
        self.refused_ids: set[int] = set()
        self.claims = Claims(self.destination)
        self.is_read = False  # all batches
        self.others: list[NewDocument] = []  # documents that other imports are storing

    async def store(self, batches: Batches, *, into_empty: bool = False) -> None:
        """Store the new and changed documents. Raise ApiError if the provider or the store fails.

        `into_empty` means that the collection was empty before, so that only other imports can have stored something.
        """
        await self.claims.hold(self.store_unclaimed(self.new_and_changed(batches), into_empty))

    async def store_unclaimed(self, changed: AsyncIterator[list[NewDocument]], into_empty: bool) -> None:
        """Store what no other import is storing, then wait for the rest and store what remains of it.

        All own documents are stored before each wait, so two imports never wait for each other.
        """
        claimed: list[NewDocument] = []
        while claimed or not self.is_read:
            stored = ingest(
                self.unclaimed(claimed, changed, into_empty),
                self.destination,
                batch_size=self.batch_size,
                concurrency=self.concurrency,
                patience=PATIENCE,
                claims=self.claims,
                on_refused=lambda document, error: self.refuse(Refused(place_of(document), error.message)),
            )
            async with aclosing(stored):
                async for document in stored:
                    self.report.documents += 1
                    self.report.chunks += len(document.chunks)
                    self.on_progress(self.report)
            claimed = await self.wait_for_others()

    async def unclaimed(
        self, claimed: list[NewDocument], changed: AsyncIterator[list[NewDocument]], into_empty: bool
    ) -> AsyncGenerator[NewDocument, None]:
        """Yield `claimed` and documents that can be claimed, until other imports are storing too many of the others."""
        for document in claimed:
            yield document
        async for documents in changed:
            for document in [*await self.claim_others(), *await self.claim(documents, into_empty)]:
                yield document
            if len(self.others) > MAX_WAITING:
                return
        self.is_read = True

    async def wait_for_others(self) -> list[NewDocument]:
        """Wait for the documents that other imports are storing. Return some that they have not stored, if any."""
        while True:
            claimed = await self.claim_others()
            if claimed or len(self.others) <= (0 if self.is_read else MAX_WAITING // 2):
                return claimed
            self.on_wait(len(self.others))
            await asyncio.sleep(POLL_SECONDS)

    async def claim_others(self) -> list[NewDocument]:
        waiting, self.others = self.others, []
        return await self.claim(await self.without_unchanged(waiting))

    async def claim(self, documents: list[NewDocument], into_empty: bool = False) -> list[NewDocument]:
        """Claim documents and return those to store. The others are unchanged by now, or another import stores them."""
        claimed = await self.claims.claim(documents)
        self.others += claimed.others
        ours = list(claimed.ours)
        changed = await self.without_unchanged(ours)  # others may have stored some since they were compared
        to_store = {document.parent_id for document in changed}
        await self.claims.release([document for document in ours if document.parent_id not in to_store])
        if into_empty:
            known = {*await sync_to_async(self.recorded_ids)(changed), *claimed.taken_over}
            changed = [replace(document, is_new=document.parent_id not in known) for document in changed]
        return changed

    async def estimate(self, batches: Batches) -> None:
        """Count what store() would do and estimate its cost, without sending anything."""
        characters = 0
        async for documents in self.new_and_changed(batches):
            for document in documents:
                self.report.documents += 1
                self.report.chunks += len(document.chunks)
                if not document.values:
                    characters += sum(len(document.text_to_embed(index)) for index in range(len(document.chunks)))
            self.on_progress(self.report)
        self.report.tokens = tokens_of(characters)
        self.report.cost = await sync_to_async(self.cost)()

    def cost(self) -> Decimal | None:
        provider, model = self.destination.embedding_provider, self.destination.embedding_model
        return PriceBook().cost({"provider": provider, "model": model, "input_tokens": self.report.tokens})

    async def new_and_changed(self, batches: Batches) -> AsyncIterator[list[NewDocument]]:
        async for batch in batches:
            documents = [found for found in batch if isinstance(found, NewDocument) and self.is_first(found)]
            for found in batch:
                if isinstance(found, Refused):
                    self.refuse(found)
                elif isinstance(found, Note):
                    self.report.left_out += found.left_out
                    self.on_note(found)
            yield await self.without_unchanged(documents)
            self.on_progress(self.report)

    async def without_unchanged(self, documents: list[NewDocument]) -> list[NewDocument]:
        """Return the documents that are not stored like this, and count the others as unchanged."""
        if self.refresh or not documents:
            return documents
        stored = await sync_to_async(stored_hashes)(self.destination, [document.parent_id for document in documents])
        changed = [document for document in documents if stored.get(document.parent_id) != document.content_hash]
        self.report.unchanged += len(documents) - len(changed)
        self.report.unchanged_chunks += sum(len(document.chunks) for document in documents)
        self.report.unchanged_chunks -= sum(len(document.chunks) for document in changed)
        return changed

    def is_first(self, document: NewDocument) -> bool:
        """Return whether this run meets the id for the first time. Of documents with the same id the first counts."""
        parent, content = hash(document.parent_id), hash(document.content_hash)
        if parent not in self.seen:
            self.seen[parent] = content
            return True
        if self.seen[parent] == content:
            self.report.unchanged += 1
        else:
            reason = f"Another document before it has the same id, {document.parent_id!r}."
            self.refuse(Refused(place_of(document), reason))
        return False

    def refuse(self, refused: Refused) -> None:
        self.report.refused += 1
        self.report.is_complete &= not refused.hides_documents
        if refused.document_id:
            self.refused_ids.add(hash(refused.document_id))
        self.on_refused(refused)

    def recorded_ids(self, documents: Sequence[NewDocument]) -> list[str]:
        ids = [document.parent_id for document in documents]
        return list(
            records_in(self.destination).filter(parent_vector_id__in=ids).values_list("parent_vector_id", flat=True)
        )

    async def prune(self, origins: Sequence[str]) -> None:
        """Remove the documents that were stored from these origins and are no longer in them."""
        ids = await self.missing(origins)
        store = await get_store(self.destination.store)
        target, namespace = self.destination.target, self.destination.namespace
        for at in range(0, len(ids), MAX_BATCH):
            batch = ids[at : at + MAX_BATCH]
            await call_store(store, store.delete_parents, target, batch, namespace)
            await records_in(self.destination).filter(parent_vector_id__in=batch).adelete()
            self.report.pruned += len(batch)
            self.on_progress(self.report)

    async def missing(self, origins: Sequence[str]) -> list[str]:
        """Return the ids of documents stored from these origins that this run has not met."""
        stored = records_in(self.destination).filter(origin__in=origins).values_list("parent_vector_id", flat=True)
        met = self.seen.keys() | self.refused_ids
        return [parent_id async for parent_id in stored if hash(parent_id) not in met]


def place_of(document: NewDocument) -> str:
    return document.source or document.parent_id


def records_in(destination: Destination) -> QuerySet[Document]:
    namespace = destination.namespace if STORES[destination.store].has_namespaces else ""
    return Document.objects.filter(
        collection__store=destination.store, collection__name=destination.target, namespace=namespace
    )


def stored_hashes(destination: Destination, ids: Sequence[str]) -> dict[str, str]:
    """Return the content hashes of those of the documents that are stored, by id."""
    stored = records_in(destination).filter(parent_vector_id__in=ids, status=Document.Status.STORED)
    return dict(stored.values_list("parent_vector_id", "content_hash"))


async def prepare(destination: Destination, *, create: bool, dimension: int | None = None) -> bool:
    """Make sure that the collection exists and fits before anything is paid for, apart from one embedded word.

    Return whether the collection is empty, in the store and by our records. `dimension` is that of embeddings which
    the documents bring along. A missing collection of the local store is created when the first document is stored.

    Raise CollectionNotFound, DimensionMismatch and other ApiErrors of the store and the provider.
    """
    store = await get_store(destination.store)
    dimension = dimension or await sync_to_async(recorded_dimension)(destination)
    records = Document.objects.filter(collection__store=store.slug, collection__name=destination.target)
    newest = (await records.aaggregate(newest=Max("pk")))["newest"] or 0
    info: CollectionInfo | None = None
    try:
        info = await call_store(store, store.describe, destination.target)
    except CollectionNotFound:
        if not (create or store.in_database):
            raise
    if dimension is None and (info.dimension if info else not store.in_database):
        (probe,) = await embed_texts(destination.embedding_provider, destination.embedding_model, ["dimension"])
        dimension = len(probe)
    if info is None and not store.in_database:
        assert dimension
        await call_store(store, store.create, destination.target, dimension)
    elif info and info.dimension and dimension and info.dimension != dimension:
        raise DimensionMismatch(info.dimension, dimension)
    is_empty = info is None or not info.count
    # Only the local store's count is exact. Pinecone's lags: 0 is no reason to delete the records of what is there. Nor
    # must the records be deleted of what another import has stored since the store was asked.
    others = ImportRun.objects.into(store.slug, destination.target)
    if is_empty and (info is None or store.in_database) and not await others.aexists():
        await records.filter(pk__lte=newest).adelete()  # the collection was deleted or emptied in the store
    return is_empty and not newest


def recorded_dimension(destination: Destination) -> int | None:
    """Return the dimension of the embedding model if it is known without asking the provider."""
    if dimension := known_dimension(destination.embedding_model):
        return dimension
    filled = Collection.objects.filter(
        store=destination.store,
        name=destination.target,
        embedding_provider=destination.embedding_provider,
        embedding_model=destination.embedding_model,
    ).first()
    return filled.dimension if filled else None


# Reading ahead


async def read_batches(documents: Iterator[NewDocument | Refused | Note], store: VectorStore | None = None) -> Batches:
    """Read the documents in batches, in a separate thread, or in a thread that may use the store they come from."""
    with reading_thread() as thread:
        while True:
            if store:
                batch = await call_store(store, next_batch, documents)
            else:
                batch = await asyncio.get_running_loop().run_in_executor(thread, next_batch, documents)
            if not batch:
                return
            yield batch


@contextmanager
def reading_thread() -> Iterator[ThreadPoolExecutor]:
    thread = ThreadPoolExecutor(1, "sources")
    try:
        yield thread
    finally:
        thread.shutdown(wait=False)  # a page that never arrives must not block the end of the import


def next_batch(documents: Iterator[NewDocument | Refused | Note]) -> list[NewDocument | Refused | Note]:
    batch: list[NewDocument | Refused | Note] = []
    characters = 0
    for found in documents:
        batch.append(found)
        if isinstance(found, NewDocument):
            characters += sum(len(chunk.text) for chunk in found.chunks)
        if len(batch) == MAX_BATCH or characters > MAX_BATCH_CHARACTERS:
            break
    return batch
