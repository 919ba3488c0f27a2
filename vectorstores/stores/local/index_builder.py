"""Build the HNSW indexes of pgvector tables, apart from the inserts.

An insert into an HNSW index takes about 10 ms, a build of the index 1 ms per row. So new rows wait until there are
enough of them. Then one index is built over them and over the smaller indexes before them, as in a log-structured merge
tree: a row is indexed only a few times however large the collection grows, and the number of indexes stays small.

PostgreSQL builds concurrently: nobody waits. A build that was interrupted is repeated, or adopted if it was completed.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections
from django.db.backends.utils import CursorWrapper

from puffer.runtime import Periodic
from vectorstores.models import Collection, ImportRun
from vectorstores.stores.local import pgvector

MIN_NUMBERS = 4_000_000  # in the vectors of an index: 10,000 vectors of 384 numbers, which are compared in about 20 ms
WHILE_IMPORTING = 10  # times as many, because the import goes on and then builds by itself
MAX_MEMORY = 512  # MB of a build; an index that does not fit is built many times more slowly
BYTES_PER_ROW = 600  # in addition to the numbers: the neighbors of a row in the graph
MIN_MEMORY = 64  # MB, PostgreSQL's own default
CHECK_SECONDS = 5.0

logger = logging.getLogger(__name__)
checks = Periodic(CHECK_SECONDS)


def run_due() -> bool:
    """Build one index that is due; return False if none is. One of settings.WORKER_JOBS."""
    if connection.vendor != "postgresql" or not checks.is_due():
        return False
    for collection in indexed_collections():
        factor = WHILE_IMPORTING if ImportRun.objects.into(collection.store, collection.name).exists() else 1
        if is_due(collection, factor) and build_next(collection):
            return True
    checks.restart()
    return False


def build_all(collection: Collection) -> None:
    """Build all indexes of the collection that are due."""
    while is_due(collection) and build_next(collection):
        pass


def indexed_collections() -> list[Collection]:
    return list(Collection.objects.filter(index=Collection.Index.PGVECTOR, dimension__lte=pgvector.MAX_INDEXED))


def is_due(collection: Collection, factor: int = 1) -> bool:
    """Return whether enough rows are not indexed, or the index is one of an earlier version, over all rows."""
    collection.refresh_from_db(fields=["index_bounds"])
    if collection.index_bounds is None:
        return True
    rows = factor * min_rows(collection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT 1 FROM {collection.pgvector_table} WHERE id > %s ORDER BY id OFFSET %s LIMIT 1",  # noqa: S608
            [pgvector.newest_indexed(collection), rows - 1],
        )
        return cursor.fetchone() is not None


def min_rows(collection: Collection) -> int:
    return max(1000, MIN_NUMBERS // (collection.dimension or 1))


def max_rows(collection: Collection) -> int:
    return MAX_MEMORY * 2**20 // bytes_per_row(collection)


def bytes_per_row(collection: Collection) -> int:
    return 4 * (collection.dimension or 1) + BYTES_PER_ROW


def build_next(collection: Collection) -> bool:
    """Build the next index of the collection. Return False if another process is building one."""
    with builder_cursor() as cursor:
        # Held until the connection ends. When this process is killed, that is at the end of the running statement.
        cursor.execute("SELECT pg_try_advisory_lock('vectorstores_collection'::regclass::int, %s)", [collection.pk])
        if not cursor.fetchone()[0]:
            return False
        collection.refresh_from_db(fields=["index_bounds"])
        bounds = collection.index_bounds
        complete = adoptable(cursor, collection)
        start, end = complete or next_range(cursor, collection)
        if end > start:
            if not complete:
                drop(cursor, indexes_of(cursor, collection) - used(collection))  # of interrupted builds
                create_index(cursor, collection, start, end)
            bounds = [bound for bound in bounds or [] if bound <= start] + [end]
        # Searches that have read the old bounds stay correct without the old indexes, which the new index includes.
        Collection.objects.filter(pk=collection.pk).update(index_bounds=bounds or [])
        collection.index_bounds = bounds or []
        drop(cursor, indexes_of(cursor, collection) - used(collection))
    return True


@contextmanager
def builder_cursor() -> Iterator[CursorWrapper]:
    """Yield a cursor of a connection of its own, without a transaction, whose statements may take any time."""
    own = connections.create_connection(DEFAULT_DB_ALIAS)
    setattr(own, "statement_seconds", 0)  # noqa: B010  only our engine for PostgreSQL has it
    try:
        with own.cursor() as cursor:
            yield cursor
    finally:
        own.close()


def next_range(cursor: CursorWrapper, collection: Collection) -> tuple[int, int]:
    """Return the range of the next index: the rows that have none, and indexes before them that are no larger.

    The range ends where its rows no longer fit in MAX_MEMORY. It is empty if there are too few rows.
    """
    table, most = collection.pgvector_table, max_rows(collection)
    edges = [0, *(collection.index_bounds or [])]
    start = edges[-1]
    size = count(cursor, table, f"id > {start:d}")
    for before, after in reversed(list(pairwise(edges))):
        size_before = count(cursor, table, pgvector.range_of(before, after))
        if size_before > size or size + size_before > most:
            break
        start, size = before, size + size_before
    if size < min_rows(collection):
        return start, start
    cursor.execute(
        f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id > %s ORDER BY id LIMIT %s) AS fitting",  # noqa: S608
        [start, most],
    )
    return start, cursor.fetchone()[0]


def count(cursor: CursorWrapper, table: str, condition: str) -> int:
    cursor.execute(f"SELECT count(*) FROM {table} WHERE {condition}")  # noqa: S608
    return int(cursor.fetchone()[0])


def create_index(cursor: CursorWrapper, collection: Collection, start: int, end: int) -> None:
    table, condition = collection.pgvector_table, pgvector.range_of(start, end)
    needed = count(cursor, table, condition) * bytes_per_row(collection) * 5 // 4 // 2**20 + 1
    cursor.execute(f"SET maintenance_work_mem = '{min(max(needed, MIN_MEMORY), MAX_MEMORY * 5 // 4):d}MB'")
    name = name_of(collection, start, end)
    statement = (
        f"CREATE INDEX CONCURRENTLY {name} ON {table} USING hnsw (embedding vector_cosine_ops) WHERE {condition}"
    )
    try:
        cursor.execute(statement)
    except DatabaseError as error:  # most often too little shared memory for parallel workers, as in containers
        logger.warning("building %s in parallel failed, so it is built by one process: %s", name, error)
        drop(cursor, {name})
        cursor.execute("SET max_parallel_maintenance_workers = 0")
        cursor.execute(statement)


def name_of(collection: Collection, start: int, end: int) -> str:
    return f"{collection.pgvector_table}_hnsw_{start:d}_{end:d}"


def used(collection: Collection) -> set[str]:
    """Return the names of the indexes that searches use. One of an earlier version is used until it is replaced."""
    if collection.index_bounds is None:
        return {f"{collection.pgvector_table}_embedding_idx"}
    return {name_of(collection, start, end) for start, end in pairwise([0, *collection.index_bounds])}


def indexes_of(cursor: CursorWrapper, collection: Collection, *, valid: bool = False) -> set[str]:
    """Return the names of the HNSW indexes; those of interrupted builds are not valid."""
    cursor.execute(
        "SELECT indexes.relname FROM pg_index JOIN pg_class AS indexes ON indexes.oid = indexrelid"
        " JOIN pg_am ON pg_am.oid = indexes.relam"
        " WHERE indrelid = %s::regclass AND amname = 'hnsw' AND (indisvalid OR NOT %s)",
        [collection.pgvector_table, valid],
    )
    return {name for (name,) in cursor.fetchall()}


def adoptable(cursor: CursorWrapper, collection: Collection) -> tuple[int, int] | None:
    """Return the range of an index that was completed, but whose builder was killed before it could record it."""
    edges = [0, *(collection.index_bounds or [])]
    for name in sorted(indexes_of(cursor, collection, valid=True) - used(collection)):
        prefix, _, numbers = name.rpartition("_hnsw_")
        start, _, end = numbers.partition("_")
        if prefix == collection.pgvector_table and int(start) in edges and int(end) > edges[-1]:
            return int(start), int(end)
    return None


def drop(cursor: CursorWrapper, names: set[str] | Sequence[str]) -> None:
    for name in sorted(names):
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
