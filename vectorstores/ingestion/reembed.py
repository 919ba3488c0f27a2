"""Embed the chunks of a collection with another model, into a new collection."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from asgiref.sync import sync_to_async

from vectorstores.base import VectorStore
from vectorstores.ingestion.chunking import chunk_size
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument, document_from_chunks
from vectorstores.ingestion.grouping import group_chunks
from vectorstores.ingestion.rows import Refused
from vectorstores.ingestion.sync import Batches, read_batches, records_in
from vectorstores.registry import get_store


@dataclass
class Reembedding:
    """The documents of the collection `old`, to be stored in `new` by an import.

    `too_long` counts the chunks that are longer than the new model's chunks.
    """

    old: str
    new: Destination
    too_long: int = 0

    async def batches(self) -> Batches:
        """Yield all documents of the old collection, with their source and origin from our records."""
        store = await get_store(self.new.store)
        async for batch in read_batches(self.documents(store), store):
            places = await sync_to_async(self.places)([one for one in batch if isinstance(one, NewDocument)])
            yield [with_place(one, places) if isinstance(one, NewDocument) else one for one in batch]

    def documents(self, store: VectorStore) -> Iterator[NewDocument | Refused]:
        size = chunk_size(self.new.embedding_provider, self.new.embedding_model, store.max_chunk_characters)
        embedding = [self.new.embedding_provider, self.new.embedding_model]
        for vectors in group_chunks(store.scan(self.old, self.new.namespace), lambda vector: vector):
            if any(not vector.text.strip() for vector in vectors):
                yield Refused(f"{self.old}: {vectors[0].parent_id}", "It has a chunk without text.")
                continue
            self.too_long += sum(len(vector.text) > size for vector in vectors)
            yield document_from_chunks(vectors, with_values=False, hashed_with=embedding)

    def places(self, documents: list[NewDocument]) -> dict[str, tuple[str, str]]:
        """Return (source, origin) by document id."""
        stored = records_in(replace(self.new, target=self.old))
        found = stored.filter(parent_vector_id__in=[document.parent_id for document in documents])
        return {
            parent_id: (source, origin)
            for parent_id, source, origin in found.values_list("parent_vector_id", "source", "origin")
        }


def with_place(document: NewDocument, places: dict[str, tuple[str, str]]) -> NewDocument:
    source, origin = places.get(document.parent_id, ("", ""))
    return replace(document, source=source, origin=origin)
