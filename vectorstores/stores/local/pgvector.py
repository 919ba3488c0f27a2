"""The vectors of the local store in PostgreSQL's extension pgvector, where the server has it: a table with an HNSW
index per collection, beside the rows that every database has. Source: https://github.com/pgvector/pgvector (0.5 and up)
"""

import math
from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError, connection, transaction

from vectorstores.base import Floats
from vectorstores.models import Collection, LocalVector

MAX_DIMENSION = 16_000  # of pgvector's type
MAX_INDEXED = 2000  # dimensions that an HNSW index takes; beyond it every row is compared
EF_SEARCH = 200  # candidates that a walk through the index keeps; pgvector's own 40 are fewer than we fuse
MAX_EF_SEARCH = 1000  # pgvector's


def can_hold(dimension: int) -> bool:
    """Whether this database has the extension, which is switched on if it may be, for vectors of this dimension."""
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
    except DatabaseError:  # there, but not ours to switch on
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


def nearest(
    collection: Collection, namespace: str, values: Floats, limit: int, among: Sequence[int] | None
) -> list[tuple[int, float]]:
    """As matrix.nearest(). By the index first; where that leaves too few, and with a filter, row by row.

    The index knows no namespaces and keeps what was deleted until the next vacuum, so a walk through it may find
    enough candidates and yet few rows.
    """
    if among is None:
        found = walk_index(collection, namespace, values, limit)
        return found if len(found) == limit else compare_rows(collection, values, limit, "namespace = %s", namespace)
    return compare_rows(collection, values, limit, "namespace = %s AND id = ANY(%s)", namespace, list(among))


def walk_index(collection: Collection, namespace: str, values: Floats, limit: int) -> list[tuple[int, float]]:
    with transaction.atomic(), connection.cursor() as cursor:
        width = min(max(EF_SEARCH, limit), MAX_EF_SEARCH)
        cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(width)])
        cursor.execute(
            f"SELECT id, 1 - (embedding <=> %s::vector) FROM {collection.pgvector_table} WHERE namespace = %s"  # noqa: S608
            " ORDER BY embedding <=> %s::vector LIMIT %s",
            [as_text(values), namespace, as_text(values), limit],
        )
        return with_numbers(cursor.fetchall())


def compare_rows(
    collection: Collection, values: Floats, limit: int, condition: str, *arguments: Any
) -> list[tuple[int, float]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, 1 - distance FROM (SELECT id, embedding <=> %s::vector AS distance"  # noqa: S608
            f" FROM {collection.pgvector_table} WHERE {condition} OFFSET 0) AS compared ORDER BY distance, id LIMIT %s",
            [as_text(values), *arguments, limit],
        )
        return with_numbers(cursor.fetchall())


def with_numbers(found: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """A vector of zeros is as near to any other as none, where pgvector says NaN."""
    return [(key, 0.0 if math.isnan(cosine) else cosine) for key, cosine in found]


def cosines(collection: Collection, namespace: str, values: Floats, keys: Sequence[int]) -> dict[int, float]:
    """As matrix.cosines()."""
    return dict(nearest(collection, namespace, values, len(keys), keys)) if keys else {}
