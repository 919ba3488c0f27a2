"""Write embedded documents into a store, and keep a Document row for each."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from asgiref.sync import sync_to_async
from django.db import transaction
from django.utils import timezone

from puffer.api import ApiError
from vectorstores.base import Vector, VectorStore
from vectorstores.errors import DimensionMismatch
from vectorstores.ingestion.claims import Claims
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.embedding import Embedder
from vectorstores.models import Collection, Document
from vectorstores.stores.threads import call_store
from vectorstores.word_index.stored_elsewhere import replace_words

logger = logging.getLogger(__name__)

DOCUMENT_ERRORS = (400, 413, 422)  # how a provider or store answers a text that it does not accept
MAX_REFUSED = 10  # documents in a row; after that, the documents are unlikely to be the cause


class Writer:
    """A writer of groups of documents into a store, which also records them and releases their claims."""

    def __init__(
        self, store: VectorStore, destination: Destination, dimension: int | None, claims: Claims | None
    ) -> None:
        self.driver = store
        self.destination = destination
        self.dimension = dimension
        self.claims = claims
        self.namespace = destination.namespace if store.has_namespaces else ""
        self.collection: Collection | None = None  # our record of it, from the first group on

    async def store(self, documents: list[NewDocument], embedding: Awaitable[list[Vector]]) -> list[NewDocument]:
        """Store the documents with their awaited vectors, and return them. Raise ApiError."""
        target, namespace = self.destination.target, self.destination.namespace
        try:
            vectors = await embedding
            self.check_dimension(vectors)
            if self.collection is None:
                self.collection = await self.open_collection()
            are_new = all(document.is_new for document in documents)
            put = self.driver.upsert if are_new else self.driver.replace
            await call_store(self.driver, put, target, vectors, namespace)
        except ApiError as error:
            await self.clean_up(documents, error)
            raise
        await sync_to_async(self.finish)(self.collection, documents, vectors)
        return documents

    @transaction.atomic
    def finish(self, collection: Collection, documents: Sequence[NewDocument], vectors: Sequence[Vector]) -> None:
        """Record the stored documents with their words, and release their claims: other imports see all or nothing."""
        if not self.driver.in_database:
            replace_words(collection, self.namespace, vectors)
        self.record(collection, documents)
        if self.claims:
            self.claims.release_now(documents)

    def check_dimension(self, vectors: Sequence[Vector]) -> None:
        for vector in vectors:
            self.dimension = self.dimension or vector.values.size
            if vector.values.size != self.dimension:
                raise DimensionMismatch(self.dimension, vector.values.size)

    async def open_collection(self) -> Collection:
        if self.driver.in_database:
            assert self.dimension
            await call_store(self.driver, self.driver.create, self.destination.target, self.dimension)
        collection, _ = await Collection.objects.aget_or_create(
            store=self.destination.store, name=self.destination.target, defaults={"dimension": self.dimension}
        )
        provider, model = self.destination.embedding_provider, self.destination.embedding_model
        if model and (collection.embedding_provider, collection.embedding_model) != (provider, model):
            if collection.embedding_model:
                logger.warning("%s now mixes embeddings of %s and %s", collection, collection.embedding_model, model)
            collection.embedding_provider, collection.embedding_model = provider, model
            await collection.asave(update_fields=["embedding_provider", "embedding_model"])
        return collection

    async def clean_up(self, documents: Sequence[NewDocument], error: ApiError) -> None:
        """Record failed documents, and delete parts of those with random ids, which no later call can replace."""
        unnamed = [document.parent_id for document in documents if not document.has_own_id]
        if unnamed and self.collection:
            try:
                target, namespace = self.destination.target, self.destination.namespace
                await call_store(self.driver, self.driver.delete_parents, target, unnamed, namespace)
            except ApiError as failure:
                logger.warning("parts of %d documents may remain in %s: %s", len(unnamed), target, failure.message)
        if self.collection:
            await sync_to_async(self.record)(
                self.collection, [document for document in documents if document.has_own_id], error.message
            )

    def record(self, collection: Collection, documents: Sequence[NewDocument], error: str = "") -> None:
        """Create or update the rows of the documents. With an error, earlier versions keep their number of chunks."""
        rows = [
            Document(
                collection=collection,
                namespace=self.namespace,
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


class BisectingWriter:
    """A writer that halves a refused group of documents until only the faulty documents are left out."""

    def __init__(self, writer: Writer, embedder: Embedder, on_refused: Callable[[NewDocument, ApiError], None]) -> None:
        self.writer = writer
        self.embedder = embedder
        self.on_refused = on_refused
        self.refused_in_a_row = 0

    async def store(self, documents: list[NewDocument], embedding: Awaitable[list[Vector]]) -> list[NewDocument]:
        """Store the documents that are accepted, and return them. Raise ApiError for other failures."""
        try:
            stored = await self.writer.store(documents, embedding)
        except ApiError as error:
            if not may_be_caused_by(documents, error) or self.refused_in_a_row == MAX_REFUSED:
                raise
            if len(documents) == 1:
                self.refused_in_a_row += 1
                self.on_refused(documents[0], error)
                if self.writer.claims:
                    await self.writer.claims.release(documents)
                return []
        else:
            self.refused_in_a_row = 0
            return stored
        middle = len(documents) // 2
        halves = documents[:middle], documents[middle:]
        return [document for half in halves for document in await self.store(half, self.embedder.embed(half))]


def may_be_caused_by(documents: Sequence[NewDocument], error: ApiError) -> bool:
    if isinstance(error, DimensionMismatch):
        return any(document.values for document in documents)  # otherwise the embedding model causes it
    return error.status in DOCUMENT_ERRORS
