"""An import: documents -> those that are new or changed -> ingest -> those that have vanished, removed.

What is stored is known by our own records of documents, so an import that was broken off goes on where it stood.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from decimal import Decimal

from asgiref.sync import sync_to_async
from django.db.models import QuerySet

from logs.usage import PriceBook
from providers.token_estimate import tokens_of
from providers.use_cases import known_dimension
from puffer.api import ApiError
from vectorstores import store_threads
from vectorstores.base import CollectionInfo, VectorStore
from vectorstores.errors import CollectionNotFound, DimensionMismatch
from vectorstores.ingestion.chunking import chunk_size, cut, cut_by_structure
from vectorstores.ingestion.documents import NewDocument, document_from, document_of_chunks
from vectorstores.ingestion.embedding import embed_texts
from vectorstores.ingestion.gather import gathered
from vectorstores.ingestion.pipeline import CONCURRENCY, Destination, ingest
from vectorstores.models import Collection, Document
from vectorstores.registry import STORES, get_store
from vectorstores.sources.rows import Refused, Row

AT_ONCE, CHARACTERS_AT_ONCE = 200, 1_000_000  # documents that are read, and looked up in our records, together
PATIENCE = 600.0  # seconds in a row that a provider's rate limit is waited out
DOCUMENT_CHUNK = 2000  # characters of a chunk of a document, where the model does not want less
LOCAL_DOCUMENT_CHUNK = 1000

Batches = AsyncIterator[Sequence[NewDocument | Refused]]


@dataclass(frozen=True, slots=True)
class Chunking:
    """Characters; None for what suits the model. The overlap is that of documents, whose structure is known."""

    size: int | None = None
    overlap: int = 0


@dataclass
class Report:
    """What became of the documents. `tokens` and `cost` (US dollars, None if unknown) are estimates of a dry run.

    `is_complete`: nothing in the sources is unknown.
    """

    documents: int = 0
    chunks: int = 0
    unchanged: int = 0
    unchanged_chunks: int = 0
    pruned: int = 0
    refused: int = 0
    tokens: int = 0
    cost: Decimal | None = None
    is_complete: bool = True


@dataclass
class Import:
    """One run. `tell` is called whenever something has happened, `refuse` with everything that is not stored."""

    destination: Destination
    tell: Callable[[Report], None]
    refuse: Callable[[Refused], None]
    batch_size: int | None = None
    concurrency: int = CONCURRENCY

    def __post_init__(self) -> None:
        self.report = Report()
        # Hashes of ids, and of the documents' contents: small, and good enough.
        self.seen: dict[int, int] = {}
        self.refused_ids: set[int] = set()

    async def store(self, batches: Batches, *, into_empty: bool = False) -> None:
        """Raises ApiError where the provider or the store fails; what is stored until then stays."""
        stored = ingest(
            self.one_by_one(batches),
            self.destination,
            batch_size=self.batch_size,
            concurrency=self.concurrency,
            patience=PATIENCE,
            into_empty=into_empty,
            refuse=lambda document, error: self.note(Refused(document.source or document.parent_id, error.message)),
        )
        async with aclosing(stored):
            async for document in stored:
                self.report.documents += 1
                self.report.chunks += len(document.chunks)
                self.tell(self.report)

    async def estimate(self, batches: Batches) -> None:
        """What store() would do, and what that would cost. Nothing is sent anywhere."""
        characters = 0
        async for document in self.one_by_one(batches):
            self.report.documents += 1
            self.report.chunks += len(document.chunks)
            if not document.values:
                characters += sum(len(document.text_to_embed(index)) for index in range(len(document.chunks)))
            self.tell(self.report)
        self.report.tokens = tokens_of(characters)
        self.report.cost = await sync_to_async(self.cost)()

    def cost(self) -> Decimal | None:
        provider, model = self.destination.embedding_provider, self.destination.embedding_model
        return PriceBook().cost({"provider": provider, "model": model, "input_tokens": self.report.tokens})

    async def one_by_one(self, batches: Batches) -> AsyncIterator[NewDocument]:
        """Documents that are not stored yet as they are now."""
        async for batch in batches:
            documents = [found for found in batch if isinstance(found, NewDocument) and self.is_new(found)]
            for found in batch:
                if isinstance(found, Refused):
                    self.note(found)
            known = await sync_to_async(self.hashes)([document.parent_id for document in documents])
            for document in documents:
                if known.get(document.parent_id) == document.content_hash:
                    self.report.unchanged += 1
                    self.report.unchanged_chunks += len(document.chunks)
                else:
                    yield document
            self.tell(self.report)

    def is_new(self, document: NewDocument) -> bool:
        """Whether this run has not met it yet. Of two with one id the first counts, in every run."""
        parent, content = hash(document.parent_id), hash(document.content_hash)
        if parent not in self.seen:
            self.seen[parent] = content
            return True
        if self.seen[parent] == content:
            self.report.unchanged += 1
        else:
            place = document.source or document.parent_id
            self.note(Refused(place, f"Another document before it has the same id, {document.parent_id!r}."))
        return False

    def note(self, refused: Refused) -> None:
        self.report.refused += 1
        self.report.is_complete &= not refused.hides_documents
        if refused.document_id:
            self.refused_ids.add(hash(refused.document_id))
        self.refuse(refused)

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        stored = records(self.destination).filter(parent_vector_id__in=ids, status=Document.Status.STORED)
        return dict(stored.values_list("parent_vector_id", "content_hash"))

    async def prune(self, origins: Sequence[str]) -> None:
        """Remove the documents that were once stored from these sources and are not in them any more."""
        gone = await self.vanished(origins)
        store = await get_store(self.destination.store)
        target, namespace = self.destination.target, self.destination.namespace
        for at in range(0, len(gone), AT_ONCE):
            ids = gone[at : at + AT_ONCE]
            await store_threads.run(store, store.delete_parents, target, ids, namespace)
            await records(self.destination).filter(parent_vector_id__in=ids).adelete()
            self.report.pruned += len(ids)
            self.tell(self.report)

    async def vanished(self, origins: Sequence[str]) -> list[str]:
        stored = records(self.destination).filter(origin__in=origins).values_list("parent_vector_id", flat=True)
        there = self.seen.keys() | self.refused_ids
        return [parent_id async for parent_id in stored if hash(parent_id) not in there]


def records(destination: Destination) -> QuerySet[Document]:
    """Of what is stored there."""
    namespace = destination.namespace if STORES[destination.store].has_namespaces else ""
    return Document.objects.filter(
        collection__store=destination.store, collection__name=destination.target, namespace=namespace
    )


async def prepare(destination: Destination, *, create: bool, dimension: int | None = None) -> bool:
    """See that the collection is there and fits, before anything is paid for but a single word.

    Gives whether it is empty, and always was as far as we know.

    `dimension` is that of vectors that are ready made. A local collection needs no server and makes itself. Raises
    CollectionNotFound, DimensionMismatch and whatever else the store or the provider has to say.
    """
    store = await get_store(destination.store)
    dimension = dimension or await sync_to_async(dimension_by_model)(destination)
    info: CollectionInfo | None = None
    try:
        info = await store_threads.run(store, store.describe, destination.target)
    except CollectionNotFound:
        if not (create or store.in_database):
            raise
    if dimension is None and (info.dimension if info else not store.in_database):
        (probe,) = await embed_texts(destination.embedding_provider, destination.embedding_model, ["dimension"])
        dimension = len(probe)
    if info is None and not store.in_database:
        assert dimension
        await store_threads.run(store, store.create, destination.target, dimension)
    elif info and info.dimension and dimension and info.dimension != dimension:
        raise DimensionMismatch(info.dimension, dimension)
    if info and info.count:
        return False
    # Whatever our records say: somebody may have made it anew.
    of_old = Document.objects.filter(collection__store=store.slug, collection__name=destination.target)
    forgotten, _ = await of_old.adelete()
    return not forgotten


def dimension_by_model(destination: Destination) -> int | None:
    """Where that can be told without asking the model."""
    if dimension := known_dimension(destination.embedding_model):
        return dimension
    filled = Collection.objects.filter(
        store=destination.store,
        name=destination.target,
        embedding_provider=destination.embedding_provider,
        embedding_model=destination.embedding_model,
    ).first()
    return filled.dimension if filled else None


# From rows to documents


def documents_in(
    rows: Iterator[Row | Refused], destination: Destination, chunking: Chunking
) -> Iterator[NewDocument | Refused]:
    embedding = destination.embedding_provider, destination.embedding_model
    for together in gathered(rows, lambda row: row.vector if isinstance(row, Row) else None):
        row = together[0]
        if isinstance(row, Refused):
            yield row
        elif row.vector is None and not any(embedding):
            yield Refused(row.place, "It brings no vector, and there is no embedding model.")
        elif row.vector and any(row.embedding) and row.embedding != embedding:
            made, here = " of ".join(reversed(row.embedding)), " of ".join(reversed(embedding))
            yield Refused(row.place, f"Its vector was made by {made}; here it is {here}.")
        else:
            try:
                yield (
                    document_of(row, destination, chunking)
                    if row.vector is None
                    else document_of_chunks(
                        [chunk.vector for chunk in together if isinstance(chunk, Row) and chunk.vector],
                        with_values=True,
                        source=row.source,
                        origin=row.origin,
                    )
                )
            except ApiError as error:
                yield Refused(row.place, error.message, document_id=row.item["id"])


def document_of(row: Row, destination: Destination, chunking: Chunking) -> NewDocument:
    provider, model = destination.embedding_provider, destination.embedding_model
    largest = chunk_size(provider, model, STORES[destination.store].max_chunk_characters)
    if row.extracted:
        usual = LOCAL_DOCUMENT_CHUNK if provider == "local" else DOCUMENT_CHUNK
        size = min(chunking.size or usual, largest)
        chunks = cut_by_structure(row.extracted, size, min(chunking.overlap, size // 2))
    else:
        size = min(chunking.size or largest, largest)
        chunks = cut(row.item["content"], size)
    return document_from(
        row.item,
        chunks=chunks,
        source=row.source,
        origin=row.origin,
        hashed_with=[provider, model, size, chunking.overlap],
    )


async def read(documents: Iterator[NewDocument | Refused], store: VectorStore | None = None) -> Batches:
    """The documents in batches, read in a thread of their own, or in one that may use the store they come from."""
    with reading_thread() as thread:
        while True:
            if store:
                batch = await store_threads.run(store, next_batch, documents)
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
        thread.shutdown(wait=False)  # a page that does not come must not hold us


def next_batch(documents: Iterator[NewDocument | Refused]) -> list[NewDocument | Refused]:
    batch: list[NewDocument | Refused] = []
    characters = 0
    for found in documents:
        batch.append(found)
        if isinstance(found, NewDocument):
            characters += sum(len(chunk.text) for chunk in found.chunks)
        if len(batch) == AT_ONCE or characters > CHARACTERS_AT_ONCE:
            break
    return batch
