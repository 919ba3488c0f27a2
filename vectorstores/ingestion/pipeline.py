"""The import pipeline: rows -> extract -> chunk -> embed -> store.

    vectorstores/sources/      find files, pages and rows: a Row has its content, or a file to extract it from
    extract.py, chunking.py    rows -> documents with text, headings and chunks: documents_from_rows() below
    sync.py                    skips the documents that are stored already (imports only)
    claims.py                  keeps other imports from embedding the same documents at the same time
    embedding.py, writer.py    documents -> vectors in the store and a Document row each: ingest() below

Documents are embedded in groups of about one call's worth of chunks. Several groups are embedded at the same time but
stored in order, so that what is stored is always the beginning of what was given.
"""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

from providers.use_cases import known_dimension
from puffer.api import ApiError, Caller
from vectorstores.base import Vector, VectorStore
from vectorstores.errors import CollectionNotFound, DimensionMismatch
from vectorstores.extraction import Extracted, LeftOut, Unreadable, extract
from vectorstores.ingestion.chunking import Chunking
from vectorstores.ingestion.claims import Claims
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument, document_from_chunks, make_document
from vectorstores.ingestion.embedding import Embedder, SharedBackoff, cancel
from vectorstores.ingestion.embedding import batch_size as usual_batch_size
from vectorstores.ingestion.grouping import group_chunks
from vectorstores.ingestion.rows import File, Found, Note, Refused, Row
from vectorstores.ingestion.writer import BisectingWriter, Writer
from vectorstores.registry import get_store
from vectorstores.stores.threads import call_store

Group = tuple[list[NewDocument], "asyncio.Task[list[Vector]]"]

CONCURRENCY = 4  # calls of the embedding model at the same time
STORED_AT_ONCE = 500  # documents

# Extract and chunk


def documents_from_rows(
    rows: Iterable[Found], destination: Destination, chunking: Chunking
) -> Iterator[NewDocument | Refused | Note]:
    """Make documents of rows. Rows with vectors are chunks, and all chunks of a document become one document."""
    for group in group_chunks(rows, lambda row: row.vector if isinstance(row, Row) else None):
        if isinstance(group[0], Row):
            yield from documents_of([row for row in group if isinstance(row, Row)], destination, chunking)
        else:
            yield group[0]


def documents_of(
    rows: Sequence[Row], destination: Destination, chunking: Chunking
) -> Iterator[NewDocument | Refused | Note]:
    """Yield the document of a row, or of the chunks of one document, and notes about it."""
    row = rows[0]
    try:
        item, extracted = extract_item(row.item, row.file) if row.file else (row.item, None)
    except Unreadable as error:
        yield Refused(row.place, str(error), document_id=row.item["id"])
    except LeftOut as reason:
        yield Note(row.place, str(reason), left_out=1)
    else:
        yield from (Note(row.place, text) for text in (extracted.notes if extracted else []))
        yield document_from_rows(rows, item, extracted, destination, chunking)


def document_from_rows(
    rows: Sequence[Row],
    item: Mapping[str, Any],
    extracted: Extracted | None,
    destination: Destination,
    chunking: Chunking,
) -> NewDocument | Refused:
    row = rows[0]
    model = destination.embedding_provider, destination.embedding_model
    if row.vector is None and not any(model):
        return Refused(row.place, "It has no vector, and there is no embedding model.")
    if row.vector and any(row.embedding) and row.embedding != model:
        made_by, expected = " of ".join(reversed(row.embedding)), " of ".join(reversed(model))
        return Refused(row.place, f"Its vector was made by {made_by}, but this collection uses {expected}.")
    try:
        if row.vector:
            vectors = [chunk.vector for chunk in rows if chunk.vector]
            return document_from_chunks(vectors, with_values=True, source=row.source, origin=row.origin)
        return make_document(
            item,
            destination,
            chunking=chunking,
            extracted=extracted,
            facts=row.facts,
            source=row.source,
            origin=row.origin,
        )
    except ApiError as error:
        return Refused(row.place, error.message, document_id=row.item["id"])


def extract_item(item: Mapping[str, Any], file: File) -> tuple[Mapping[str, Any], Extracted]:
    """Return the item with the text of the file and a title, and the text with its structure.

    Raise Unreadable or LeftOut.
    """
    extracted = extract(file.data, file.media_type, file.charset)
    if not extracted.text:
        raise Unreadable("It contains no text.")
    title = item["metadata"].get("title") or extracted.title or file.default_title
    metadata = {**item["metadata"], "title": title}
    if extracted.date:
        metadata.setdefault("date", extracted.date)
    return {**item, "content": extracted.text, "metadata": metadata}, extracted


# Embed and store


async def ingest(
    documents: Iterable[NewDocument] | AsyncIterable[NewDocument],
    destination: Destination,
    *,
    caller: Caller | None = None,
    batch_size: int | None = None,
    concurrency: int = CONCURRENCY,
    patience: float = 0,
    on_refused: Callable[[NewDocument, ApiError], None] | None = None,
    claims: Claims | None = None,
) -> AsyncGenerator[NewDocument, None]:
    """Embed and store the documents, each in place of an earlier version, and yield each one once it is stored.

    `batch_size` is how many texts one call of the embedding model takes; `patience` is for how many seconds in a row
    to wait out a provider's rate limit. `claims` are those of the documents, which are released as they are stored.

    Raise ApiError at the first document that fails: the documents yielded until then are stored, the others are not.
    With `on_refused`, a document that is not accepted is passed to it, and the others are still stored.
    """
    batch_size = batch_size or usual_batch_size(destination.embedding_provider)
    store = await get_store(destination.store)
    writer = Writer(store, destination, await check_target(store, destination), claims)
    embedder = Embedder(destination, caller, batch_size, concurrency, SharedBackoff(patience))
    write = BisectingWriter(writer, embedder, on_refused).store if on_refused else writer.store
    under_way: deque[Group] = deque()
    try:
        async for group in in_groups(documents, batch_size):
            under_way.append((group, asyncio.create_task(embedder.embed(group))))
            while len(under_way) > concurrency:
                for document in await write(*await next_embedded(under_way)):
                    yield document
        while under_way:
            for document in await write(*await next_embedded(under_way)):
                yield document
    finally:
        await cancel([task for _, task in under_way])


async def check_target(store: VectorStore, destination: Destination) -> int | None:
    """Return the dimension of the collection; None if its first vector decides. Raise ApiError before any cost arises.

    A missing collection of the local store is created when the first document is stored.
    """
    expected = known_dimension(destination.embedding_model)
    try:
        info = await call_store(store, store.describe, destination.target)
    except CollectionNotFound:
        if not store.in_database:
            raise
        return None
    if info.dimension and expected and info.dimension != expected:
        raise DimensionMismatch(info.dimension, expected)
    return info.dimension


async def in_groups(
    documents: Iterable[NewDocument] | AsyncIterable[NewDocument], chunks: int
) -> AsyncIterator[list[NewDocument]]:
    """Yield groups of at most `chunks` chunks (more only for a single document), in order, no id twice in a group."""
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


async def next_embedded(under_way: deque[Group]) -> tuple[list[NewDocument], Awaitable[list[Vector]]]:
    """Take the first group, and those after it that are embedded too, because stores prefer large requests."""
    documents, embedding = under_way.popleft()
    await asyncio.wait([embedding])
    embeddings = [embedding]
    ids = {document.parent_id for document in documents}
    while under_way and len(ids) < STORED_AT_ONCE and all(map(succeeded, (embedding, under_way[0][1]))):
        more = {document.parent_id for document in under_way[0][0]}
        if more & ids:
            break
        ids |= more
        documents = documents + under_way[0][0]
        embeddings.append(under_way.popleft()[1])
    return documents, all_of(embeddings)


def succeeded(embedding: "asyncio.Task[list[Vector]]") -> bool:
    return embedding.done() and not embedding.cancelled() and embedding.exception() is None


async def all_of(embeddings: Sequence["asyncio.Task[list[Vector]]"]) -> list[Vector]:
    return [vector for embedding in embeddings for vector in await embedding]
