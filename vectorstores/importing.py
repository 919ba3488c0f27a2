"""An import: sources -> rows -> documents that are new or changed -> ingest -> documents that have vanished, removed.

What is stored is known by our own records of documents, so an import that was broken off goes on where it stood.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async

from logs.prices import PriceBook
from puffer.api.errors import ApiError
from vectorstores import store_threads
from vectorstores.base import CollectionInfo, Vector
from vectorstores.chunking import Chunk, chunk_size, cut, cut_by_structure
from vectorstores.documents import NewDocument, document_from
from vectorstores.embedding import as_floats, embed_texts
from vectorstores.ingest import CONCURRENCY, Destination, Writer, check_target, ingest
from vectorstores.models import Document
from vectorstores.registry import STORES, get_store
from vectorstores.sources import Refused, Row, Sources
from vectorstores.store_errors import CollectionNotFound

ROWS_AT_ONCE = 200  # read, and looked up in our records, together
PATIENCE = 600.0  # seconds in a row that a provider's rate limit is waited out
DOCUMENT_CHUNK = 2000  # characters of a chunk of a document, where the model does not want less
LOCAL_DOCUMENT_CHUNK = 1000
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Options:
    chunk_size: int | None = None
    chunk_overlap: int | None = None
    batch_size: int | None = None
    concurrency: int = CONCURRENCY
    prune: bool = False
    dry_run: bool = False


@dataclass
class Report:
    """What became of the rows. `tokens` and `cost` (US dollars, None if unknown) are estimates of a dry run."""

    documents: int = 0
    chunks: int = 0
    unchanged: int = 0
    pruned: int = 0
    tokens: int = 0
    cost: Decimal | None = None
    refused: list[Refused] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every source was read to its end."""
        return not any(refused.is_whole_source for refused in self.refused)


class Import:
    """One run. `tell()` is called whenever something has happened, for a progress bar."""

    def __init__(
        self, sources: Sources, destination: Destination, options: Options, tell: Callable[[Report], None]
    ) -> None:
        self.sources = sources
        self.destination = destination
        self.options = options
        self.tell = tell
        self.report = Report()
        self.seen: set[int] = set()  # hashes of the documents' ids: small, and good enough not to delete something
        self.is_empty = True

    async def run(self) -> Report:
        """Raises ApiError where the provider or the store fails; what is stored until then stays."""
        if self.options.dry_run:
            async for documents in self.changed():
                self.count(documents)
            self.report.tokens = self.report.tokens // CHARACTERS_PER_TOKEN
            self.report.cost = await sync_to_async(self.estimate)()
            return self.report
        store = await get_store(self.destination.store)
        await check_target(store, self.destination)
        self.is_empty = await is_empty(self.destination)
        stored = ingest(
            self.one_by_one(),
            self.destination,
            batch_size=self.options.batch_size,
            concurrency=self.options.concurrency,
            patience=PATIENCE,
        )
        async for document in stored:
            self.report.documents += 1
            self.report.chunks += len(document.chunks)
            self.tell(self.report)
        if self.options.prune and self.report.is_complete:
            await self.remove_vanished()
        return self.report

    async def one_by_one(self) -> AsyncIterator[NewDocument]:
        async for documents in self.changed():
            for document in documents:
                yield document

    async def changed(self) -> AsyncIterator[list[NewDocument]]:
        """Documents that are not stored yet as they are now. What brings its vectors is stored on the way."""
        rows = self.sources.rows()
        while batch := await asyncio.to_thread(lambda: list(itertools.islice(rows, ROWS_AT_ONCE))):
            found = [row for row in batch if isinstance(row, Row)]
            self.report.refused += [row for row in batch if isinstance(row, Refused)]
            documents = []
            vectors = []
            for row in found:
                try:
                    if row.values is None:
                        documents.append(self.document_of(row))
                    else:
                        vectors.append(vector_of(row))
                except ApiError as error:
                    self.report.refused.append(Refused(row.place, error.message))
            await self.put(vectors)
            yield await self.without_unchanged(documents)
            self.tell(self.report)

    def document_of(self, row: Row) -> NewDocument:
        provider, model = self.destination.embedding_provider, self.destination.embedding_model
        largest = chunk_size(provider, model, STORES[self.destination.store].max_chunk_characters)
        usual = LOCAL_DOCUMENT_CHUNK if provider == "local" else DOCUMENT_CHUNK
        is_document = row.extracted is not None
        size = min(self.options.chunk_size or (usual if is_document else largest), largest)
        overlap = self.options.chunk_overlap
        chunks: Sequence[Chunk]
        if row.extracted is not None:
            chunks = cut_by_structure(row.extracted, size, min(overlap or 0, size // 2))
        else:
            chunks = cut(row.item["content"], size)
        return document_from(
            row.item,
            chunks=chunks,
            source=row.source,
            origin=row.origin,
            hashed_with=[provider, model, size, overlap],
        )

    async def without_unchanged(self, documents: Sequence[NewDocument]) -> list[NewDocument]:
        known = {} if self.is_empty else await sync_to_async(self.hashes)([d.parent_id for d in documents])
        changed = []
        for document in documents:
            self.seen.add(hash(document.parent_id))
            if known.get(document.parent_id) == document.content_hash:
                self.report.unchanged += 1
            else:
                changed.append(document)
        return changed

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        stored = self.records().filter(parent_vector_id__in=ids, status=Document.Status.STORED)
        return dict(stored.values_list("parent_vector_id", "content_hash"))

    def records(self) -> Any:
        namespace = self.destination.namespace if STORES[self.destination.store].has_namespaces else ""
        return Document.objects.filter(
            collection__store=self.destination.store, collection__name=self.destination.target, namespace=namespace
        )

    def count(self, documents: Sequence[NewDocument]) -> None:
        self.report.documents += len(documents)
        self.report.chunks += sum(len(document.chunks) for document in documents)
        self.report.tokens += sum(  # characters, until all are counted
            len(document.text_to_embed(index)) for document in documents for index in range(len(document.chunks))
        )

    def estimate(self) -> Decimal | None:
        provider, model = self.destination.embedding_provider, self.destination.embedding_model
        return PriceBook().cost({"provider": provider, "model": model, "input_tokens": self.report.tokens})

    async def put(self, vectors: Sequence[Vector]) -> None:
        """Chunks that were exported with their vectors: stored as they are."""
        if not vectors or self.options.dry_run:
            self.report.chunks += len(vectors)
            return
        store = await get_store(self.destination.store)
        writer = Writer(store, self.destination, await check_target(store, self.destination))
        await writer.put(vectors)
        self.seen.update(hash(vector.parent_id) for vector in vectors)
        self.report.chunks += len(vectors)
        self.tell(self.report)

    async def remove_vanished(self) -> None:
        """Of these sources, the documents that were stored once and are not in them any more."""
        origins = [self.sources.origin_of(name)[:2000] for name in self.sources.named]
        gone = await sync_to_async(self.vanished)(origins)
        store = await get_store(self.destination.store)
        for at in range(0, len(gone), ROWS_AT_ONCE):
            ids = gone[at : at + ROWS_AT_ONCE]
            target, namespace = self.destination.target, self.destination.namespace
            await store_threads.run(store, store.delete_parents, target, ids, namespace)
            await self.records().filter(parent_vector_id__in=ids).adelete()
            self.report.pruned += len(ids)
            self.tell(self.report)

    def vanished(self, origins: Sequence[str]) -> list[str]:
        ids: Iterator[str] = self.records().filter(origin__in=origins).values_list("parent_vector_id", flat=True)
        return [parent_id for parent_id in ids if hash(parent_id) not in self.seen]


async def is_empty(destination: Destination) -> bool:
    """Whether nothing is in the collection, whatever our records say: somebody may have made it anew."""
    store = await get_store(destination.store)
    try:
        info = await store_threads.run(store, store.describe, destination.target)
    except CollectionNotFound:
        return True
    return not info.count


def vector_of(row: Row) -> Vector:
    """A chunk as export_vectors writes it."""
    metadata = {**row.item["metadata"]}
    metadata.setdefault("parent_vector_id", row.item["id"])
    metadata.setdefault("vector_id", row.item["id"])
    try:
        return Vector(row.item["id"], as_floats(row.values), row.item["content"], metadata)
    except (ValueError, TypeError):
        raise ApiError('"values" must be a list of numbers.', status=400) from None


async def prepare_target(destination: Destination, *, create: bool) -> CollectionInfo | None:
    """What is there before anything is paid for; None for a local collection that will be made by itself.

    Raises CollectionNotFound, DimensionMismatch and whatever else the store has to say.
    """
    store = await get_store(destination.store)
    try:
        await check_target(store, destination)
        return await store_threads.run(store, store.describe, destination.target)
    except CollectionNotFound:
        if store.in_database:
            return None
        if not create:
            raise
    (probe,) = await embed_texts(destination.embedding_provider, destination.embedding_model, ["dimension"])
    await store_threads.run(store, store.create, destination.target, len(probe))
    return await store_threads.run(store, store.describe, destination.target)
