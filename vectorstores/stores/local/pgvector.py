"""The vectors of the local store in pgvector, where PostgreSQL has that extension.

Each collection gets a table with an HNSW index, in addition to the rows of LocalVector.
Source: https://github.com/pgvector/pgvector (0.5 and up)
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.db import DatabaseError, connection, transaction

from vectorstores.base import Floats
from vectorstores.models import Collection, LocalVector

MAX_DIMENSION = 16_000  # of the type vector
MAX_INDEXED = 2000  # dimensions of an HNSW index; larger vectors are compared one by one
EF_SEARCH = 200  # candidates of a search in the index; the default of 40 is less than we fuse
MAX_EF_SEARCH = 1000  # pgvector's limit


def can_hold(dimension: int) -> bool:
    """Return whether pgvector can store vectors of this dimension. Enable the extension if this user may."""
    if connection.vendor != "postgresql" or dimension > MAX_DIMENSION:
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'),"
            " (SELECT count(*) FROM pg_extension WHERE extname = 'vector')"
        )
        available, is_on = cursor.fetchone()
    if not available or is_on:
        return bool(is_on)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except DatabaseError:  # installed, but this user may not enable it
        return False
    return True


def create(collection: Collection) -> None:
    table, dimension = collection.pgvector_table, collection.dimension
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {table} ("
            " id bigint PRIMARY KEY REFERENCES vectorstores_localvector ON DELETE CASCADE,"
            f" namespace varchar(200) NOT NULL, embedding vector({dimension:d}) NOT NULL)"
        )
        cursor.execute(f"CREATE INDEX ON {table} (namespace)")
        if dimension and dimension <= MAX_INDEXED:
            cursor.execute(f"CREATE INDEX ON {table} USING hnsw (embedding vector_cosine_ops)")


def insert(collection: Collection, rows: Sequence[LocalVector], values: Sequence[Floats]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {collection.pgvector_table} (id, namespace, embedding) VALUES (%s, %s, %s::vector)",  # noqa: S608
            [(row.pk, row.namespace, as_text(floats)) for row, floats in zip(rows, values, strict=True)],
        )


def as_text(values: Floats) -> str:
    return f"[{','.join(map(repr, values.tolist()))}]"


def begin(
    collection: Collection, namespace: str, values: Floats, limit: int, among: Sequence[int] | None
) -> Callable[[], list[tuple[int, float]]]:
    """Return a function that searches. It begins only when called: a connection does one thing at a time."""
    return partial(nearest, collection, namespace, values, limit, among)


def nearest(
    collection: Collection, namespace: str, values: Floats, limit: int, among: Sequence[int] | None
) -> list[tuple[int, float]]:
    """Return what matrix.begin() finds: in the index, or row by row if the index finds too few or `among` is given.

    The index ignores namespaces and contains deleted rows until the next vacuum, so enough candidates may leave too few
    rows.
    """
    if among is None:
        found = search_index(collection, namespace, values, limit)
        return found if len(found) == limit else compare_rows(collection, values, limit, "namespace = %s", namespace)
    return compare_rows(collection, values, limit, "namespace = %s AND id = ANY(%s)", namespace, list(among))


def search_index(collection: Collection, namespace: str, values: Floats, limit: int) -> list[tuple[int, float]]:
    with transaction.atomic(), connection.cursor() as cursor:
        width = min(max(EF_SEARCH, limit), MAX_EF_SEARCH)
        cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(width)])
        cursor.execute(
            f"SELECT id, 1 - (embedding <=> %s::vector) FROM {collection.pgvector_table} WHERE namespace = %s"  # noqa: S608
            " ORDER BY embedding <=> %s::vector LIMIT %s",
            [as_text(values), namespace, as_text(values), limit],
        )
        return without_nan(cursor.fetchall())


def compare_rows(
    collection: Collection, values: Floats, limit: int, condition: str, *arguments: Any
) -> list[tuple[int, float]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, 1 - distance FROM (SELECT id, embedding <=> %s::vector AS distance"  # noqa: S608
            f" FROM {collection.pgvector_table} WHERE {condition} OFFSET 0) AS compared ORDER BY distance, id LIMIT %s",
            [as_text(values), *arguments, limit],
        )
        return without_nan(cursor.fetchall())


def without_nan(found: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Replace NaN with 0: it is pgvector's cosine with a vector of zeros."""
    return [(key, 0.0 if math.isnan(cosine) else cosine) for key, cosine in found]


def cosines(collection: Collection, namespace: str, values: Floats, keys: Sequence[int]) -> dict[int, float]:
    """Return the cosines like matrix.cosines()."""
    return dict(nearest(collection, namespace, values, len(keys), keys)) if keys else {}
