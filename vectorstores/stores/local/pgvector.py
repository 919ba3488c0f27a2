"""The vectors of the local store in pgvector, where PostgreSQL has that extension.

Each collection gets a table, in addition to the rows of LocalVector. Older rows are covered by HNSW indexes, each over
a range of keys; index_builder.py builds them later, so an insert does not have to update one. New rows are compared one
by one.

    keys    0 ........ 500,000 ..... 620,000 ..... newest
            HNSW index   HNSW index    compared
            `Collection.index_bounds` is [500000, 620000]

Source: https://github.com/pgvector/pgvector (0.5 and up)
"""

import math
import struct
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from django.db import DatabaseError, connection, transaction

from vectorstores.base import Floats
from vectorstores.models import Collection, LocalVector

MAX_DIMENSION = 16_000  # of the type vector
MAX_INDEXED = 2000  # dimensions of an HNSW index; larger vectors are compared one by one
EF_SEARCH = 200  # candidates of a search in the index; the default of 40 is less than we fuse
MAX_EF_SEARCH = 1000  # pgvector's limit
COPY_HEADER, COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"

Found = list[tuple[int, float]]


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
    collection.index_bounds = []
    collection.save(update_fields=["index_bounds"])


def insert(collection: Collection, rows: Sequence[LocalVector], values: Sequence[Floats]) -> None:
    """Copy the vectors into the table, in PostgreSQL's binary format, which is the fastest way in.

    Source: https://www.postgresql.org/docs/current/sql-copy.html, and vector_recv() of pgvector
    """
    parts = [COPY_HEADER]
    for row, floats in zip(rows, values, strict=True):
        namespace = row.namespace.encode()
        parts += [
            struct.pack(">hiqi", 3, 8, row.pk, len(namespace)),  # columns; length and value of the first
            namespace,
            struct.pack(">ihh", 4 + 4 * len(floats), len(floats), 0),
            floats.astype(">f4").tobytes(),
        ]
    statement = f"COPY {collection.pgvector_table} (id, namespace, embedding) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement) as copy:
        copy.write(b"".join([*parts, COPY_END]))


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
    """Return what matrix.begin() finds: in the indexes and row by row behind them; only row by row if `among` is given.

    An index ignores namespaces and contains deleted rows until the next vacuum, so enough candidates may leave too few
    rows. Then its rows are compared one by one.
    """
    if among is not None:
        return compare_rows(collection, values, limit, "namespace = %s AND id = ANY(%s)", namespace, list(among))
    parts = parts_of(collection)
    found = search_indexes(collection, namespace, values, limit, parts)
    for at, part in enumerate(parts):
        if len(found[at]) < limit:
            found[at] = compare_rows(collection, values, limit, f"namespace = %s AND {part}", namespace)
    if collection.index_bounds is not None:
        rest = f"namespace = %s AND id > {newest_indexed(collection):d}"
        found.append(compare_rows(collection, values, limit, rest, namespace))
    best = sorted((pair for part in found for pair in part), key=lambda pair: (-pair[1], pair[0]))
    return best[:limit]


def parts_of(collection: Collection) -> list[str]:
    """Return the conditions on the keys under which the indexes of the collection were built."""
    if collection.index_bounds is None:
        return ["TRUE"]
    return [range_of(start, end) for start, end in pairwise([0, *collection.index_bounds])]


def range_of(start: int, end: int) -> str:
    """Return the condition of an index. The planner uses the index only for a query that implies it."""
    return f"id > {start:d} AND id <= {end:d}"


def newest_indexed(collection: Collection) -> int:
    return max(collection.index_bounds or [], default=0)


def search_indexes(
    collection: Collection, namespace: str, values: Floats, limit: int, parts: Sequence[str]
) -> list[Found]:
    """Return what each of the indexes finds, in one statement."""
    if not parts:
        return []
    text = as_text(values)
    searches = " UNION ALL ".join(
        f"(SELECT {at:d}, id, 1 - (embedding <=> %s::vector) FROM {collection.pgvector_table}"  # noqa: S608
        f" WHERE namespace = %s AND {part} ORDER BY embedding <=> %s::vector LIMIT %s)"
        for at, part in enumerate(parts)
    )
    found: list[Found] = [[] for _ in parts]
    with transaction.atomic(), connection.cursor() as cursor:
        width = min(max(EF_SEARCH, limit), MAX_EF_SEARCH)
        cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(width)])
        cursor.execute(searches, [text, namespace, text, limit] * len(parts))
        for at, key, cosine in cursor.fetchall():
            found[at].append((key, cosine))
    return [without_nan(part) for part in found]


def compare_rows(collection: Collection, values: Floats, limit: int, condition: str, *arguments: Any) -> Found:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id, 1 - distance FROM (SELECT id, embedding <=> %s::vector AS distance"  # noqa: S608
            f" FROM {collection.pgvector_table} WHERE {condition} OFFSET 0) AS compared ORDER BY distance, id LIMIT %s",
            [as_text(values), *arguments, limit],
        )
        return without_nan(cursor.fetchall())


def without_nan(found: Found) -> Found:
    """Replace NaN with 0: it is pgvector's cosine with a vector of zeros."""
    return [(key, 0.0 if math.isnan(cosine) else cosine) for key, cosine in found]


def cosines(collection: Collection, namespace: str, values: Floats, keys: Sequence[int]) -> dict[int, float]:
    """Return the cosines like matrix.cosines()."""
    return dict(nearest(collection, namespace, values, len(keys), keys)) if keys else {}
