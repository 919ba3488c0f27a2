"""The local store's HNSW indexes on PostgreSQL: built after inserts, interrupted, replaced. See test_pgvector.py."""

import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from django.db import DatabaseError, connection

from puffer.runtime import Periodic, in_seconds
from tests.support.stores.random_vectors import vectors
from vectorstores.base import Query, StoreSettings, Vector
from vectorstores.models import Collection, ImportRun, LocalVector
from vectorstores.stores.local import index_builder, pgvector
from vectorstores.stores.local.driver import Local

DIMENSION = 16


@pytest.fixture
def store(transactional_db, monkeypatch):
    """Return a store whose indexes have at least 1,000 rows."""
    if not pgvector.can_hold(3):
        pytest.skip("this run's database is not PostgreSQL with pgvector: see test_pgvector.py")
    monkeypatch.setattr(index_builder, "MIN_NUMBERS", 0)
    monkeypatch.setattr(index_builder, "checks", Periodic(0))
    store = Local(StoreSettings())
    store.create("kb", DIMENSION)
    yield store
    Collection.objects.all().delete()


def collection():
    return Collection.objects.get(name="kb")


def indexes():
    """Return the names of the HNSW indexes, and whether each is valid."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index"
            " WHERE indrelid = %s::regclass AND pg_get_indexdef(indexrelid) LIKE '%%hnsw%%' ORDER BY 1",
            [collection().pgvector_table],
        )
        return dict(cursor.fetchall())


def sizes():
    """Return how many rows each index covers, and how many rows none."""
    keys = np.array(list(LocalVector.objects.values_list("pk", flat=True)))
    edges = [0, *collection().index_bounds, np.inf]
    return [int(((keys > start) & (keys <= end)).sum()) for start, end in pairwise(edges)]


def recall(store, stored, count=20):
    """Return the share of the nearest vectors that are found, over several questions."""
    unit = np.stack([one.values / np.linalg.norm(one.values) for one in stored])
    shares = []
    for values in np.random.default_rng(5).normal(size=(10, DIMENSION)).astype(np.float32):
        exact = {stored[at].id for at in np.argsort(-(unit @ values))[:count]}
        found = [match.id for match in store.query("kb", Query(values, count))]
        assert len(found) == len(set(found)) == count
        shares.append(len(exact & set(found)) / count)
    return sum(shares) / len(shares)


def test_rows_are_searched_exactly_until_they_are_indexed(store):
    stored = vectors(3000, DIMENSION)
    store.upsert("kb", stored)
    assert indexes() == {}
    assert recall(store, stored) == 1.0
    assert store.needs_index("kb")
    store.build_index("kb")
    assert not store.needs_index("kb")
    assert list(indexes().values()) == [True]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        (part,) = pgvector.parts_of(collection())
        cursor.execute(
            f"EXPLAIN SELECT id FROM {collection().pgvector_table} WHERE namespace = '' AND {part}"
            " ORDER BY embedding <=> %s::vector LIMIT 100",
            [pgvector.as_text(stored[0].values)],
        )
        assert f"using {next(iter(indexes()))}" in "".join(row[0] for row in cursor.fetchall())
    assert recall(store, stored) > 0.9  # HNSW is approximate
    newest = Vector("new", stored[7].values, "new", {"parent_vector_id": "new"})
    store.upsert("kb", [newest])
    assert {match.id for match in store.query("kb", Query(stored[7].values, 2))} == {"doc-7", "new"}
    store.delete_parents("kb", ["new"])
    assert store.query("kb", Query(stored[7].values, 2))[0].id == "doc-7"


def test_small_indexes_are_merged(store):
    stored = []
    expected = [(3000, [3000, 0]), (999, [3000, 999]), (100, [3000, 1099, 0]), (2000, [6099, 0])]
    for number, (count, sizes_after) in enumerate(expected):
        new = vectors(count, DIMENSION, f"doc{number}")
        stored += new
        store.upsert("kb", new)
        store.build_index("kb")
        assert sizes() == sizes_after
        assert len(indexes()) == len(sizes_after) - 1
        assert all(indexes().values())
        assert recall(store, stored) > 0.9


def test_an_index_is_no_larger_than_its_memory(store, monkeypatch):
    monkeypatch.setattr(index_builder, "MAX_MEMORY", 1)
    most = index_builder.max_rows(collection())
    assert 1000 < most < 1600
    stored = vectors(4 * most + 10, DIMENSION)
    store.upsert("kb", stored)
    store.build_index("kb")
    assert sizes() == [most] * 4 + [10]
    assert recall(store, stored) > 0.9


def test_a_small_namespace_in_a_large_collection_is_searched_completely(store):
    """The HNSW index ignores namespaces, so a search through it would find only some of the namespace's rows."""
    stored = vectors(150, DIMENSION, "blue")
    store.upsert("kb", stored[:100], "blue")
    store.upsert("kb", vectors(2000, DIMENSION))
    store.build_index("kb")
    store.upsert("kb", stored[100:], "blue")
    assert sizes() == [2100, 50]
    assert len(store.query("kb", Query(-stored[0].values, 150), "blue")) == 150
    found = store.query("kb", Query(-stored[0].values, 150, filter={"number": [3, 120]}), "blue")
    assert {match.id for match in found} == {"blue-3", "blue-120"}


def test_the_index_of_an_earlier_version_is_replaced(store):
    stored = vectors(1500, DIMENSION)
    table = collection().pgvector_table
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX ON {table} USING hnsw (embedding vector_cosine_ops)")
    Collection.objects.update(index_bounds=None)
    store.upsert("kb", stored)
    assert list(indexes()) == [f"{table}_embedding_idx"]
    assert recall(store, stored) > 0.9
    assert index_builder.run_due() is True
    assert sizes() == [1500, 0]
    assert list(indexes()) == [f"{table}_hnsw_0_{collection().index_bounds[0]}"]
    assert recall(store, stored) > 0.9


def test_a_worker_waits_for_an_import_to_end(store):
    run = ImportRun.objects.create(store="local", target="kb", leased_until=in_seconds(20))
    store.upsert("kb", vectors(1000, DIMENSION))
    assert index_builder.run_due() is False
    assert sizes() == [1000]
    store.upsert("kb", vectors(9000, DIMENSION, "more"))
    assert index_builder.run_due() is True  # so many that searches would become slow
    assert sizes() == [10_000, 0]
    store.upsert("kb", vectors(1000, DIMENSION, "yet more"))
    assert index_builder.run_due() is False
    ImportRun.objects.filter(pk=run.pk).update(leased_until=in_seconds(-1))  # it was killed
    assert index_builder.run_due() is True
    assert sizes() == [10_000, 1000, 0]
    assert index_builder.run_due() is False


def test_an_interrupted_build_is_repeated(store):
    stored = vectors(20_000, DIMENSION)
    store.upsert("kb", stored)

    def terminate():
        deadline = time.monotonic() + 60
        with index_builder.builder_cursor() as cursor:
            while time.monotonic() < deadline:
                cursor.execute(  # in an earlier phase nothing of the index exists
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_progress_create_index"
                    " WHERE phase LIKE 'building index%'"
                )
                if cursor.fetchone()[0]:
                    return
                time.sleep(0.02)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(DatabaseError):
        store.build_index("kb")
    thread.join()
    assert False in indexes().values()
    assert recall(store, stored[:]) == 1.0  # searched without it
    store.upsert("kb", vectors(10, DIMENSION, "more"))
    assert index_builder.run_due() is True
    assert sizes() == [20_010, 0]
    assert list(indexes().values()) == [True]


def test_a_build_whose_process_was_killed_is_adopted(store):
    """PostgreSQL completes the statement of a client that is gone."""
    store.upsert("kb", vectors(1500, DIMENSION))
    end = LocalVector.objects.latest("pk").pk
    with index_builder.builder_cursor() as cursor:
        index_builder.create_index(cursor, collection(), 0, end)
    before = indexes()
    store.upsert("kb", vectors(10, DIMENSION, "more"))
    assert index_builder.run_due() is True
    assert indexes() == before
    assert sizes() == [1500, 10]


def test_only_one_process_builds(store):
    store.upsert("kb", vectors(1500, DIMENSION))
    with index_builder.builder_cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock('vectorstores_collection'::regclass::int, %s)", [collection().pk])
        assert index_builder.run_due() is False
        assert indexes() == {}
    assert index_builder.run_due() is True
