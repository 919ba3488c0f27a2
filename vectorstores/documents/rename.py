"""Rename a stored document: change its id and title, keep its text and embeddings."""

from collections.abc import Sequence
from dataclasses import replace

from asgiref.sync import sync_to_async
from django.db import transaction

from vectorstores.base import Vector, VectorStore
from vectorstores.documents.stored import read
from vectorstores.models import Document
from vectorstores.registry import get_store
from vectorstores.stores.threads import call_store
from vectorstores.word_index.stored_elsewhere import replace_words


async def rename(document: Document, parent_id: str, title: str) -> None:
    """Rename a document, which comes with its collection, in its store and in our record. Raise ApiError.

    The renamed vectors are stored before the old ones are deleted, so an interrupted rename can be repeated.
    """
    target, namespace = document.collection.name, document.namespace
    store = await get_store(document.collection.store)
    vectors = (await read(document)).vectors
    renamed = [with_names(vector, document.parent_vector_id, parent_id, title) for vector in vectors]
    if renamed:
        await call_store(store, store.replace, target, renamed, namespace)
        await call_store(store, store.delete_parents, target, [document.parent_vector_id], namespace)
    await sync_to_async(record)(store, document, parent_id, title, renamed)


@transaction.atomic
def record(store: VectorStore, document: Document, parent_id: str, title: str, renamed: Sequence[Vector]) -> None:
    """Rename our record and the words of a document."""
    if not store.in_database:
        replace_words(document.collection, document.namespace, renamed, [document.parent_vector_id])
    document.parent_vector_id, document.title = parent_id, title[:500]
    document.content_hash = ""  # the next import must not take it for unchanged
    document.save(update_fields=["parent_vector_id", "title", "content_hash"])


def with_names(vector: Vector, old_id: str, parent_id: str, title: str) -> Vector:
    vector_id = parent_id + vector.id.removeprefix(old_id)  # keeps the suffix with the chunk's index
    names = {"vector_id": vector_id, "parent_vector_id": parent_id, "title": title}
    return replace(vector, id=vector_id, metadata={**vector.metadata, **names})
