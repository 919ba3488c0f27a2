"""A stored document under another title and id. Its text and its embeddings stay as they are."""

from collections.abc import Iterator
from dataclasses import replace

from vectorstores.base import Vector, VectorStore
from vectorstores.errors import CollectionNotFound
from vectorstores.models import Document
from vectorstores.registry import get_store
from vectorstores.stores.threads import call_store


async def rename(document: Document, parent_id: str, title: str) -> None:
    """In its store and in our record of it, which comes with its collection. Raises ApiError.

    The new one is there before the old one goes: if this ends half way, it can be done again.
    """
    target, namespace = document.collection.name, document.namespace
    store = await get_store(document.collection.store)
    try:
        vectors = await call_store(store, vectors_of, store, document)
    except CollectionNotFound:  # deleted at the store, and our records of it not yet
        vectors = []
    renamed = [of_another_name(vector, document.parent_vector_id, parent_id, title) for vector in vectors]
    if renamed:
        await call_store(store, store.replace, target, renamed, namespace)
        await call_store(store, store.delete_parents, target, [document.parent_vector_id], namespace)
    document.parent_vector_id, document.title = parent_id, title[:500]
    document.content_hash = ""  # it is no longer what an import would compare it with
    await document.asave(update_fields=["parent_vector_id", "title", "content_hash"])


def vectors_of(store: VectorStore, document: Document) -> list[Vector]:
    found: Iterator[Vector] = store.scan(document.collection.name, document.namespace)
    return [vector for vector in found if vector.parent_id == document.parent_vector_id]


def of_another_name(vector: Vector, old_id: str, parent_id: str, title: str) -> Vector:
    vector_id = parent_id + vector.id.removeprefix(old_id)  # the number of the chunk follows it
    names = {"vector_id": vector_id, "parent_vector_id": parent_id, "title": title}
    return replace(vector, id=vector_id, metadata={**vector.metadata, **names})
