"""The built-in store: vectors and full text in our own database, searched together.

query:  search by meaning (matrix or pgvector) and by words (keywords) -> fuse by score -> matches
change: one transaction; the transactions of a collection run one after another
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from django.db import connection, transaction
from django.db.models import BooleanField, F, Q
from django.db.models.expressions import RawSQL

from puffer.api import ApiError
from puffer.text import storable
from vectorstores.base import CollectionInfo, Filter, Floats, Match, Metric, Query, Vector, VectorStore
from vectorstores.errors import CollectionNotFound, DimensionMismatch
from vectorstores.models import Collection, LocalVector
from vectorstores.stores.local import deletions, index_builder, matrix, pgvector
from vectorstores.word_index import keywords
from vectorstores.word_index.fusion import CANDIDATES, fused
from vectorstores.word_index.rows import ROWS_AT_ONCE, in_parts, insert_rows, of_parents, row_of, with_ids

QUERY_ATTEMPTS = 5  # while others write
MAX_NAME = 200  # characters in the name of a collection or namespace


class Local(VectorStore):
    """The built-in store."""

    slug = "local"
    label = "Local"
    has_namespaces = True
    in_database = True

    def list_targets(self) -> list[str]:
        return sorted(Collection.objects.filter(store=self.slug).values_list("name", flat=True))

    def describe(self, target: str) -> CollectionInfo:
        collection = self.open(target)
        return CollectionInfo(target, collection.dimension, Metric.COSINE, collection.vectors.count())

    @transaction.atomic
    def create(self, target: str, dimension: int) -> None:
        check_names(target)
        index = Collection.Index.PGVECTOR if pgvector.can_hold(dimension) else Collection.Index.MATRIX
        collection, created = Collection.objects.get_or_create(
            store=self.slug, name=target, defaults={"dimension": dimension, "index": index}
        )
        if created and index == Collection.Index.PGVECTOR:
            pgvector.create(collection)

    @transaction.atomic
    def upsert(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        collection = self.lock(target, namespace)
        self.put(collection, namespace, vectors, with_ids(vectors))

    @transaction.atomic
    def replace(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        """Replace the documents in one transaction, so that no reader finds half a document."""
        collection = self.lock(target, namespace)
        self.put(collection, namespace, vectors, [*of_parents(vectors), *with_ids(vectors)])

    @transaction.atomic
    def delete_leftovers(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        collection = self.lock(target, namespace)
        kept = {vector.id for vector in vectors}
        stored = collection.vectors.filter(namespace=namespace)
        ids = {
            vector_id
            for part in of_parents(vectors)
            for vector_id in stored.filter(part).values_list("vector_id", flat=True)
        }
        self.remove(collection, namespace, in_parts("vector_id", ids - kept))

    @transaction.atomic
    def delete_parents(self, target: str, parent_ids: Sequence[str], namespace: str = "") -> None:
        self.remove(self.lock(target, namespace), namespace, in_parts("parent_vector_id", set(parent_ids)))

    def lock(self, target: str, namespace: str) -> Collection:
        """Return the collection and keep its row locked until the end of the transaction.

        So writers of a collection run one after another, and later rows have higher keys, by which the matrix of each
        worker recognizes new rows.
        """
        check_names(target, namespace)
        Collection.objects.filter(store=self.slug, name=target).update(version=F("version") + 1)
        return self.open(target, namespace)

    def put(self, collection: Collection, namespace: str, vectors: Sequence[Vector], replaced: Sequence[Q]) -> None:
        """Store the vectors in place of the rows that match any of the conditions in `replaced`."""
        values = {vector.id: unit_vector(vector.values, collection) for vector in vectors}
        self.remove(collection, namespace, replaced)
        rows = []
        for vector in {vector.id: vector for vector in vectors}.values():  # of vectors with the same id, the last
            row = row_of(vector, collection, namespace)
            row.values, row.metadata = values[vector.id].tobytes(), vector.metadata
            rows.append(row)
        insert_rows(rows)
        if rows and collection.index == Collection.Index.PGVECTOR:
            pgvector.insert(collection, rows, [values[row.vector_id] for row in rows])

    def remove(self, collection: Collection, namespace: str, conditions: Sequence[Q]) -> None:
        here = collection.vectors.filter(namespace=namespace)
        keys: list[int] = []
        for condition in conditions:
            rows = here.filter(condition)
            keys += rows.values_list("pk", flat=True)
            rows.delete()
        if keys and collection.index == Collection.Index.MATRIX:
            deletions.record(collection, keys)

    def query(self, target: str, query: Query, namespace: str = "") -> list[Match]:
        """Search by meaning and, if the query has a text, by words; order the matches by both scores."""
        for _ in range(QUERY_ATTEMPTS):
            collection = self.open(target, namespace)
            with suppress(Collection.DoesNotExist):  # deleted meanwhile: the next open() raises CollectionNotFound
                matches = self.search(collection, query, namespace)
                if matches is not None:
                    return matches
        with transaction.atomic():  # the lock keeps writers out
            return self.search(self.lock(target, namespace), query, namespace) or []

    def load(self, target: str, namespace: str = "") -> None:
        with suppress(CollectionNotFound, Collection.DoesNotExist):
            collection = self.open(target, namespace)
            if collection.index == Collection.Index.MATRIX:
                matrix.blocks_of(collection, namespace)

    def search(self, collection: Collection, query: Query, namespace: str) -> list[Match] | None:
        """Return the matches; None if some rows were deleted during the search.

        A search reads several times while others write. If rows disappear, the matches may mix an old and a new version
        of a document.
        """
        values = unit_vector(query.values, collection)
        index = pgvector if collection.index == Collection.Index.PGVECTOR else matrix
        among = self.matching(collection, namespace, query.filter) if query.filter else None
        limit = max(CANDIDATES, query.top_k)
        found_by_meaning = index.begin(collection, namespace, values, limit, among)
        relevances: dict[int, float] = {}
        text = query.text if collection.searches_words else ""
        if text:
            allowed = None if among is None else set(among)
            relevances = dict(keywords.search(collection, namespace, text, limit, allowed))
        cosines = dict(found_by_meaning())
        ranked = list(cosines)
        if text:
            ranked = fused(cosines, relevances, limit)
            found_by_words = [key for key in ranked[: query.top_k] if key not in cosines]
            cosines |= index.cosines(collection, namespace, values, found_by_words)
        best = [key for key in ranked[: query.top_k] if key in cosines]
        rows = LocalVector.objects.only("vector_id", "text", "metadata").in_bulk(best)
        if len(rows) < len(best):
            return None
        return [match_of(rows[key], cosines[key]) for key in best]

    def matching(self, collection: Collection, namespace: str, wanted: Filter) -> list[int]:
        """Return the primary keys of the rows that match the filter. A list in the metadata matches by any entry."""
        rows = collection.vectors.filter(namespace=namespace)
        for name, value in wanted.items():
            values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
            if name == "parent_vector_id":
                rows = rows.filter(parent_vector_id__in=values)
            elif '"' in name:  # no metadata key contains it, and a JSON path of SQLite cannot quote it
                rows = rows.none()
            else:
                rows = rows.filter(has_one_of(name, values))
        return list(rows.values_list("pk", flat=True))

    def scan(self, target: str, namespace: str = "", parent_id: str = "") -> Iterator[Vector]:
        rows, last = self.open(target, namespace).vectors.filter(namespace=namespace).order_by("pk"), 0
        if parent_id:
            rows = rows.filter(parent_vector_id=parent_id)
        while page := list(rows.filter(pk__gt=last)[:ROWS_AT_ONCE]):
            for row in page:
                yield Vector(row.vector_id, np.frombuffer(row.values, "<f4"), row.text, row.metadata)
            last = page[-1].pk

    def needs_index(self, target: str) -> bool:
        return any(index_builder.is_due(one) for one in index_builder.indexed_collections() if one.name == target)

    def build_index(self, target: str) -> None:
        index_builder.build_all(self.open(target))

    def open(self, target: str, namespace: str = "") -> Collection:
        check_names(target, namespace)
        try:
            return Collection.objects.get(store=self.slug, name=target)
        except Collection.DoesNotExist:
            raise CollectionNotFound(self.label, target) from None


def check_names(*names: str) -> None:
    for name in names:
        if len(name) > MAX_NAME or name != storable(name):
            raise ApiError(
                f"{name[:MAX_NAME]!r} is not a valid collection or namespace name. Use at most {MAX_NAME} characters.",
                status=400,
                code="local_api_error",
            )


def has_one_of(name: str, values: Sequence[str | int | float | bool]) -> RawSQL:
    """Return a condition on the metadata. Types must match too: neither "1" nor true is the number 1."""
    if connection.vendor == "postgresql":
        forms = [json.dumps({name: form}) for value in values for form in (value, [value])]
        return RawSQL("metadata @> ANY(%s::jsonb[])", [forms], BooleanField())
    conditions = ["0"]
    arguments: list[str | int | float] = [f'$."{name}"']
    for value in values:
        if isinstance(value, bool):
            conditions.append(f"type = '{'true' if value else 'false'}'")
        else:
            types = "'text'" if isinstance(value, str) else "'integer', 'real'"
            conditions.append(f"type IN ({types}) AND value = %s")
            arguments.append(value)
    found = f"EXISTS (SELECT 1 FROM json_each(metadata, %s) WHERE {' OR '.join(conditions)})"  # noqa: S608
    return RawSQL(found, arguments, BooleanField())  # noqa: S611


def unit_vector(values: Floats, collection: Collection) -> Floats:
    """Scale the vector to length 1, as little-endian float32 on any machine."""
    assert collection.dimension
    if len(values) != collection.dimension:
        raise DimensionMismatch(collection.dimension, len(values))
    exact = values.astype(np.float64)  # float64, because the square of a float32 may overflow or underflow
    length = float(np.linalg.norm(exact))
    if not np.isfinite(length):
        raise ApiError("A vector contains a value that is not a finite number.", status=400, code="local_api_error")
    return (exact / (length or 1.0)).astype("<f4")


def match_of(row: LocalVector, cosine: float) -> Match:
    return Match(row.vector_id, max(-1.0, min(1.0, cosine)), row.text, row.metadata)
