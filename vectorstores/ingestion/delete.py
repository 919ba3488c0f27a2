"""Out for good: documents -> their vectors are removed from the stores -> our records of them may go."""

from collections.abc import Sequence
from itertools import groupby

from puffer.api import ApiError
from vectorstores import store_threads
from vectorstores.models import Document
from vectorstores.registry import STORES, get_store
from vectorstores.stores.rest import in_batches

AT_ONCE = 200  # documents


async def delete_vectors(documents: Sequence[Document]) -> tuple[list[Document], list[str]]:
    """The documents whose vectors are gone, and for every place that refused a sentence that says so.

    `documents` come with their collections. A record must outlive its vectors, for nobody else knows where they are.
    """
    gone: list[Document] = []
    problems: list[str] = []
    ordered = sorted(documents, key=lambda document: (document.collection_id, document.namespace))
    for (_, namespace), group in groupby(ordered, key=lambda document: (document.collection_id, document.namespace)):
        here = list(group)
        collection = here[0].collection
        done = 0
        try:
            store = await get_store(collection.store)
            for batch in in_batches(here, AT_ONCE):
                ids = [document.parent_vector_id for document in batch]
                await store_threads.run(store, store.delete_parents, collection.name, ids, namespace)
                done += len(batch)
        except ApiError as error:
            place = f"{STORES[collection.store].label}, {collection.name}"
            problems.append(f"{place}: {len(here) - done} not deleted. {error.message}")
        gone += here[:done]
    return gone, problems
