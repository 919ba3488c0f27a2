"""Delete documents: first their vectors in the stores, then our records."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from puffer.api import ApiError
from vectorstores.models import Document
from vectorstores.registry import STORES, get_store
from vectorstores.stores.rest import in_batches
from vectorstores.stores.threads import call_store

DELETED_AT_ONCE = 200  # documents


@dataclass(frozen=True, slots=True)
class Failure:
    """A collection in which `count` documents could not be deleted."""

    place: str
    count: int
    reason: str


async def delete_documents(documents: Sequence[Document]) -> list[Failure]:
    """Delete documents, which come with their collections, and their records. Return what could not be deleted."""
    deleted, failures = await delete_vectors(documents)
    await Document.objects.filter(pk__in=[document.pk for document in deleted]).adelete()
    return failures


async def delete_vectors(documents: Sequence[Document]) -> tuple[list[Document], list[Failure]]:
    """Delete the vectors of documents, which come with their collections.

    Return the documents whose vectors are deleted, and the failures. Keep the records of the other documents: only
    they say where the remaining vectors are.
    """
    deleted: list[Document] = []
    failures: list[Failure] = []
    ordered = sorted(documents, key=lambda document: (document.collection_id, document.namespace))
    for (_, namespace), group in groupby(ordered, key=lambda document: (document.collection_id, document.namespace)):
        here = list(group)
        collection = here[0].collection
        done = 0
        try:
            store = await get_store(collection.store)
            for batch in in_batches(here, DELETED_AT_ONCE):
                ids = [document.parent_vector_id for document in batch]
                await call_store(store, store.delete_parents, collection.name, ids, namespace)
                done += len(batch)
        except ApiError as error:
            place = f"{STORES[collection.store].label}, {collection.name}"
            failures.append(Failure(place, len(here) - done, error.message))
        deleted += here[:done]
    return deleted, failures
