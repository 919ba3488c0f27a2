"""The words of chunks whose vectors Pinecone, Qdrant or Chroma hold: rows of LocalVector without a vector.

A document's words are written together with its record, after its vectors, and deleted together with its record. So a
recorded document has its words, unless it was stored by an earlier version or while the collection did not search
words. Rows that outlive their chunks do no harm: hybrid.py returns only what the store has.

Writers lock the collection, which keeps them from inserting the same chunk at once.
"""

from collections.abc import Sequence

from django.db.models import QuerySet

from vectorstores.base import Vector
from vectorstores.models import Collection, LocalVector
from vectorstores.word_index import keywords
from vectorstores.word_index.fusion import CANDIDATES
from vectorstores.word_index.rows import in_parts, insert_rows, of_parents, row_of, with_ids


def lock(collection: Collection) -> Collection:
    """Return the collection as saved, locked until the end of the transaction. Raise Collection.DoesNotExist."""
    return Collection.objects.select_for_update(no_key=True).get(pk=collection.pk)


def rows_in(collection: Collection, namespace: str) -> QuerySet[LocalVector]:
    return collection.vectors.filter(namespace=namespace)


def replace_words(
    collection: Collection, namespace: str, vectors: Sequence[Vector], old_ids: Sequence[str] = ()
) -> None:
    """Store the words of whole documents in place of earlier versions, within a transaction.

    `old_ids` are ids that the documents had before. A collection that does not search words only loses rows.
    """
    saved = lock(collection)
    for condition in [*of_parents(vectors), *with_ids(vectors), *in_parts("parent_vector_id", old_ids)]:
        rows_in(saved, namespace).filter(condition).delete()
    if saved.searches_words:
        latest = {vector.id: vector for vector in vectors}
        insert_rows([row_of(vector, saved, namespace) for vector in latest.values()])


def find_words(store: str, target: str, namespace: str, question: str) -> dict[str, float]:
    """Return the relevance of up to CANDIDATES chunks by their id, best first; none if words are not searched."""
    collection = Collection.objects.filter(store=store, name=target, searches_words=True).first()
    if collection is None:
        return {}
    found = dict(keywords.search(collection, namespace, question, CANDIDATES))
    ids = dict(rows_in(collection, namespace).filter(pk__in=found).values_list("pk", "vector_id"))
    return {ids[key]: relevance for key, relevance in found.items() if key in ids}
