"""A collection's chunks as documents to be embedded anew, into another collection."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from asgiref.sync import sync_to_async

from vectorstores.base import Vector, VectorStore
from vectorstores.ingestion.chunking import chunk_size
from vectorstores.ingestion.documents import NewDocument, document_of_chunks
from vectorstores.ingestion.gather import gathered
from vectorstores.ingestion.pipeline import Destination
from vectorstores.ingestion.sync import Batches, read, records
from vectorstores.registry import get_store
from vectorstores.sources.rows import Refused


@dataclass
class Reembedding:
    """`too_long` counts the chunks of which the new model may not read all."""

    old: str
    new: Destination
    too_long: int = 0

    async def batches(self) -> Batches:
        """All of the old collection, with what our records tell of its documents."""
        store = await get_store(self.new.store)
        async for batch in read(self.documents(store), store):
            known = await sync_to_async(self.places)([one for one in batch if isinstance(one, NewDocument)])
            yield [with_place(one, known) if isinstance(one, NewDocument) else one for one in batch]

    def documents(self, store: VectorStore) -> Iterator[NewDocument | Refused]:
        size = chunk_size(self.new.embedding_provider, self.new.embedding_model, store.max_chunk_characters)
        embedding = [self.new.embedding_provider, self.new.embedding_model]
        for vectors in gathered(store.scan(self.old, self.new.namespace), itself):
            if any(not vector.text.strip() for vector in vectors):
                yield Refused(f"{self.old}: {vectors[0].parent_id}", "It has a chunk without a text.")
                continue
            self.too_long += sum(len(vector.text) > size for vector in vectors)
            yield document_of_chunks(vectors, with_values=False, hashed_with=embedding)

    def places(self, documents: list[NewDocument]) -> dict[str, tuple[str, str]]:
        """(source, origin) by id"""
        stored = records(replace(self.new, target=self.old))
        found = stored.filter(parent_vector_id__in=[document.parent_id for document in documents])
        return {
            parent_id: (source, origin)
            for parent_id, source, origin in found.values_list("parent_vector_id", "source", "origin")
        }


def itself(vector: Vector) -> Vector:
    return vector


def with_place(document: NewDocument, known: dict[str, tuple[str, str]]) -> NewDocument:
    source, origin = known.get(document.parent_id, ("", ""))
    return replace(document, source=source, origin=origin)
