"""The way into a collection: documents -> embeddings -> vectors in the store -> a record of each document.

Documents go in groups of about one call's worth of chunks. The embeddings of several groups are asked for at the same
time, but groups are stored in order, so that what is stored is always the beginning of what was given.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.utils import timezone

from providers.use_cases import known_dimension
from puffer.api import ApiError, Caller
from vectorstores import store_threads
from vectorstores.base import Floats, Vector, VectorStore
from vectorstores.errors import CollectionNotFound, DimensionMismatch
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.embedding import BATCH_SIZE, BATCH_SIZES, Pace, embed_texts
from vectorstores.models import Collection, Document
from vectorstores.registry import get_store

logger = logging.getLogger(__name__)

Group = tuple[list[NewDocument], "asyncio.Task[list[Vector]]"]

CONCURRENCY = 4  # calls of the embedding model at the same time
DOCUMENTS_FAULT = (400, 413, 422)  # what a provider or store answers to a text that it does not take
STORED_AT_ONCE = 500  # documents
MOST_REFUSED = 10  # documents in a row, after which the fault is hardly theirs


@dataclass(frozen=True, slots=True)
class Destination:
    """A collection, and the model whose embeddings are in it."""

    store: str  # its slug
    target: str
    embedding_provider: str
    embedding_model: str
    namespace: str = ""

    @property
    def batch_size(self) -> int:
        return BATCH_SIZES.get(self.embedding_provider, BATCH_SIZE)


async def ingest(
    documents: Iterable[NewDocument] | AsyncIterable[NewDocument],
    destination: Destination,
    *,
    caller: Caller | None = None,
    batch_size: int | None = None,
    concurrency: int = CONCURRENCY,
    patience: float = 0,
    refuse: Callable[[NewDocument, ApiError], None] | None = None,
    into_empty: bool = False,
) -> AsyncGenerator[NewDocument, None]:
    """Store the documents, each in place of an earlier one with its id, and yield each once it is stored.

    `batch_size` is how many texts go into a call of the embedding model; `patience` is for how many seconds in a row
    a provider's rate limit is waited out. Raises ApiError at the first document that fails; of those that were not
    yielded, none is stored anew. With `refuse`, a document that is not taken is told to it, and the others go on.
    `into_empty`: nothing is there that could be replaced, and no id comes twice.
    """
    batch_size = batch_size or destination.batch_size
    store = await get_store(destination.store)
    writer = Writer(store, destination, await check_target(store, destination), replaces=not into_empty)
    embedder = Embedder(destination, caller, batch_size, concurrency, Pace(patience))
    finish = Isolation(writer, embedder, refuse).store if refuse else writer.store
    under_way: deque[Group] = deque()
    try:
        async for group in grouped(documents, batch_size):
            under_way.append((group, asyncio.create_task(embedder.embed(group))))
            while len(under_way) > concurrency:
                for document in await finish(*await next_embedded(under_way)):
                    yield document
        while under_way:
            for document in await finish(*await next_embedded(under_way)):
                yield document
    finally:
        await cancel([task for _, task in under_way])


async def next_embedded(under_way: deque[Group]) -> tuple[list[NewDocument], Awaitable[list[Vector]]]:
    """The next documents to be stored: as many as have their vectors, for stores like large pieces."""
    documents, embedding = under_way.popleft()
    await asyncio.wait([embedding])
    embeddings = [embedding]
    ids = {document.parent_id for document in documents}
    while under_way and len(ids) < STORED_AT_ONCE and all(map(went_well, (embedding, under_way[0][1]))):
        more = {document.parent_id for document in under_way[0][0]}
        if more & ids:
            break
        ids |= more
        documents = documents + under_way[0][0]
        embeddings.append(under_way.popleft()[1])
    return documents, all_of(embeddings)


def went_well(embedding: "asyncio.Task[list[Vector]]") -> bool:
    return embedding.done() and not embedding.cancelled() and embedding.exception() is None


async def all_of(embeddings: Sequence["asyncio.Task[list[Vector]]"]) -> list[Vector]:
    return [vector for embedding in embeddings for vector in await embedding]


async def check_target(store: VectorStore, destination: Destination) -> int | None:
    """The collection's dimension, where it has one already. Raises what is wrong before an embedding is paid for.

    The local store's collections need no server and no decision, so they are made when something is put into them.
    """
    expected = known_dimension(destination.embedding_model)
    try:
        info = await store_threads.run(store, store.describe, destination.target)
    except CollectionNotFound:
        if not store.in_database:
            raise
        return None
    if info.dimension and expected and info.dimension != expected:
        raise DimensionMismatch(info.dimension, expected)
    return info.dimension


async def grouped(
    documents: Iterable[NewDocument] | AsyncIterable[NewDocument], chunks: int
) -> AsyncIterator[list[NewDocument]]:
    """In order, at most `chunks` chunks together unless one document alone has more; no id twice in a group."""
    group: dict[str, NewDocument] = {}
    size = 0
    async for document in documents if isinstance(documents, AsyncIterable) else one_by_one(documents):
        if group and (size + len(document.chunks) > chunks or document.parent_id in group):
            yield list(group.values())
            group, size = {}, 0
        group[document.parent_id] = document
        size += len(document.chunks)
    if group:
        yield list(group.values())


async def one_by_one(documents: Iterable[NewDocument]) -> AsyncIterator[NewDocument]:
    for document in documents:
        yield document


class Embedder:
    """Gives the chunks of documents their vectors, with a bounded number of calls at a time."""

    def __init__(
        self, destination: Destination, caller: Caller | None, batch_size: int, concurrency: int, pace: Pace
    ) -> None:
        self.destination = destination
        self.caller = caller
        self.batch_size = batch_size
        self.calls = asyncio.Semaphore(concurrency)
        self.pace = pace

    async def embed(self, documents: Sequence[NewDocument]) -> list[Vector]:
        """The vectors of the documents, in order."""
        texts = [
            document.text_to_embed(index)
            for document in documents
            if not document.values
            for index in range(len(document.chunks))
        ]
        starts = range(0, len(texts), self.batch_size)
        batches = [asyncio.create_task(self.embed_batch(texts[at : at + self.batch_size])) for at in starts]
        try:
            embedded = iter([floats for batch in batches for floats in await batch])
        finally:
            await cancel(batches)
        return [
            Vector(
                document.vector_id(index),
                document.values[index] if document.values else next(embedded),
                chunk.text,
                document.vector_metadata(index),
            )
            for document in documents
            for index, chunk in enumerate(document.chunks)
        ]

    async def embed_batch(self, texts: Sequence[str]) -> list[Floats]:
        async with self.calls:
            provider, model = self.destination.embedding_provider, self.destination.embedding_model
            return await embed_texts(provider, model, texts, caller=self.caller, pace=self.pace)


async def cancel(tasks: Sequence["asyncio.Task[list[Vector]] | asyncio.Task[list[Floats]]"]) -> None:
    """Stop those that still run, and leave no exception unread."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Writer:
    """Puts groups of documents into the store, and down in our own records."""

    def __init__(self, store: VectorStore, destination: Destination, dimension: int | None, *, replaces: bool) -> None:
        self.driver = store
        self.put = store.replace if replaces else store.upsert
        self.destination = destination
        self.dimension = dimension
        self.collection: Collection | None = None  # our record of it, from the first group on

    async def store(self, documents: list[NewDocument], embedding: Awaitable[list[Vector]]) -> list[NewDocument]:
        """The documents, now stored."""
        target, namespace = self.destination.target, self.destination.namespace
        try:
            vectors = await embedding
            self.check_dimension(vectors)
            if self.collection is None:
                self.collection = await self.open_collection()
            await store_threads.run(self.driver, self.put, target, vectors, namespace)
        except ApiError as error:
            await self.clean_up(documents, error)
            raise
        await sync_to_async(self.record)(self.collection, documents)
        return documents

    def check_dimension(self, vectors: Sequence[Vector]) -> None:
        for vector in vectors:
            self.dimension = self.dimension or vector.values.size
            if vector.values.size != self.dimension:
                raise DimensionMismatch(self.dimension, vector.values.size)

    async def open_collection(self) -> Collection:
        if self.driver.in_database:
            assert self.dimension
            await store_threads.run(self.driver, self.driver.create, self.destination.target, self.dimension)
        collection, _ = await Collection.objects.aget_or_create(
            store=self.destination.store, name=self.destination.target, defaults={"dimension": self.dimension}
        )
        provider, model = self.destination.embedding_provider, self.destination.embedding_model
        if model and (collection.embedding_provider, collection.embedding_model) != (provider, model):
            if collection.embedding_model:
                logger.warning(
                    "%s holds embeddings of %s; now of %s too", collection, collection.embedding_model, model
                )
            collection.embedding_provider, collection.embedding_model = provider, model
            await collection.asave(update_fields=["embedding_provider", "embedding_model"])
        return collection

    async def clean_up(self, documents: Sequence[NewDocument], error: ApiError) -> None:
        """After a failure: no half of a text that nobody could ever replace, for nobody knows its id; and a note."""
        unnamed = [document.parent_id for document in documents if not document.has_own_id]
        if unnamed and self.collection:
            try:
                target, namespace = self.destination.target, self.destination.namespace
                await store_threads.run(self.driver, self.driver.delete_parents, target, unnamed, namespace)
            except ApiError as failure:
                logger.warning("parts of %d texts may be left in %s: %s", len(unnamed), target, failure.message)
        if self.collection:
            await sync_to_async(self.record)(
                self.collection, [document for document in documents if document.has_own_id], error.message
            )

    def record(self, collection: Collection, documents: Sequence[NewDocument], error: str = "") -> None:
        """With an error: that they could not be stored. What was stored of them before still counts its chunks."""
        rows = [
            Document(
                collection=collection,
                namespace=self.destination.namespace if self.driver.has_namespaces else "",
                parent_vector_id=document.parent_id,
                title=document.title[:500],
                source=document.source[:2000],
                origin=document.origin[:2000],
                content_hash="" if error else document.content_hash,
                chunks=0 if error else len(document.chunks),
                status=Document.Status.FAILED if error else Document.Status.STORED,
                error=error,
                updated_at=timezone.now(),
            )
            for document in documents
        ]
        changed = ["content_hash", "status", "error", "updated_at"]
        Document.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["collection", "namespace", "parent_vector_id"],
            update_fields=changed if error else [*changed, "title", "source", "origin", "chunks"],
        )


class Isolation:
    """Stores groups of documents; one that is not taken, half by half, so that in the end only the faulty are not."""

    def __init__(self, writer: Writer, embedder: Embedder, refuse: Callable[[NewDocument, ApiError], None]) -> None:
        self.writer = writer
        self.embedder = embedder
        self.refuse = refuse
        self.refused_in_a_row = 0

    async def store(self, documents: list[NewDocument], embedding: Awaitable[list[Vector]]) -> list[NewDocument]:
        """Those that are stored now."""
        try:
            stored = await self.writer.store(documents, embedding)
        except ApiError as error:
            if not may_be_its_own_fault(documents, error) or self.refused_in_a_row == MOST_REFUSED:
                raise
            if len(documents) == 1:
                self.refused_in_a_row += 1
                self.refuse(documents[0], error)
                return []
        else:
            self.refused_in_a_row = 0
            return stored
        middle = len(documents) // 2
        halves = documents[:middle], documents[middle:]
        return [document for half in halves for document in await self.store(half, self.embedder.embed(half))]


def may_be_its_own_fault(documents: Sequence[NewDocument], error: ApiError) -> bool:
    if isinstance(error, DimensionMismatch):  # else the model's
        return any(document.values for document in documents)
    return error.status in DOCUMENTS_FAULT
