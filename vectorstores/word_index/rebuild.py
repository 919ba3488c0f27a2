"""Write the words of a collection again, from the chunks in its store, while searches and imports go on.

    scan the store -> replace the rows of each part -> delete the rows that the scan has not met

Documents that are stored, renamed or deleted meanwhile are left alone: whoever does that also writes their words.
An interrupted run leaves rows that are as good as before; the next one starts again.
"""

from collections.abc import Collection as Values
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from puffer.runtime import delete_batch
from puffer.text import storable
from vectorstores.base import Vector, VectorStore
from vectorstores.models import MAX_PARENT_ID, MAX_VECTOR_ID, Collection, Document, LocalVector
from vectorstores.word_index.rows import ROWS_AT_ONCE, insert_rows, row_of, with_ids
from vectorstores.word_index.stored_elsewhere import lock, rows_in


def rebuild(store: VectorStore, collection: Collection, namespace: str) -> Iterator[tuple[int, int]]:
    """Yield the number of chunks that were read, and how many of these were indexed, after each part.

    Raise ApiError if the store fails.
    """
    started = timezone.now()
    old = rows_in(collection, namespace)
    old = old.filter(pk__lte=old.aggregate(newest=Max("pk"))["newest"] or 0)
    ids = records(collection, namespace).order_by().values_list("parent_vector_id", flat=True)
    recorded = {hash(parent_id) for parent_id in ids.iterator()}  # hashes fit in memory for any number of documents
    chunks = store.scan(collection.name, namespace)
    while part := list(islice(chunks, ROWS_AT_ONCE)):
        ours = [vector for vector in part if can_be_found(vector)]
        yield len(part), add(collection, namespace, ours, recorded, started)
    delete_all(old)


def delete_all(rows: QuerySet[LocalVector]) -> None:
    while delete_batch(rows):
        pass


@transaction.atomic
def add(
    collection: Collection, namespace: str, vectors: Sequence[Vector], recorded: Values[int], started: datetime
) -> int:
    """Index the chunks whose documents have not changed since the scan `started`. Return their number."""
    saved = lock(collection)
    if not saved.searches_words:
        return 0
    found = records(collection, namespace).filter(parent_vector_id__in={vector.parent_id for vector in vectors})
    changed_at = dict(found.values_list("parent_vector_id", "updated_at"))
    failed = set(found.filter(status=Document.Status.FAILED).values_list("parent_vector_id", flat=True))

    def is_current(parent_id: str) -> bool:
        """Return whether the store's chunks are those that were scanned; a failed import has not replaced them."""
        if parent_id not in changed_at:
            return hash(parent_id) not in recorded  # otherwise it was deleted
        return parent_id in failed or changed_at[parent_id] < started

    current = {vector.id: vector for vector in vectors if is_current(vector.parent_id)}
    for condition in with_ids(list(current.values())):
        rows_in(saved, namespace).filter(condition).delete()
    insert_rows([row_of(vector, saved, namespace) for vector in current.values()])
    return len(current)


def records(collection: Collection, namespace: str) -> QuerySet[Document]:
    return Document.objects.filter(collection=collection, namespace=namespace)


def can_be_found(vector: Vector) -> bool:
    """Return whether a query can look the chunk up by its id; chunks of other programs may lack the metadata for it."""
    return (
        vector.metadata.get("vector_id") == vector.id == storable(vector.id)
        and vector.parent_id == storable(vector.parent_id)
        and len(vector.id) <= MAX_VECTOR_ID
        and len(vector.parent_id) <= MAX_PARENT_ID
        and bool(vector.text.strip())
    )
