"""The vectors of the local store in memory: they follow the table, by its changes alone, within a limit."""

import random

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from chatbots.conversation.knowledge import load_vectors
from chatbots.models import Chatbot
from tests.support.stores.vectors import vector
from vectorstores.base import Query, StoreSettings, Vector
from vectorstores.models import Collection, LocalVector, VectorDeletion
from vectorstores.stores.local import deletions, matrix
from vectorstores.stores.local.driver import Local
from vectorstores.word_index import keywords

pytestmark = pytest.mark.django_db(transaction=True)  # within a transaction, nothing is kept in memory

DIMENSION = 4
ROW_BYTES = 4 * DIMENSION
ANY = np.array([0.3, -0.2, 0.9, 0.1], np.float32)
store = Local(StoreSettings())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "BLOCK_BYTES", 50 * ROW_BYTES)
    monkeypatch.setattr(matrix, "READ_AT_ONCE", 30)
    monkeypatch.setattr(matrix, "_matrices", type(matrix._matrices)())


def new_collection(name: str = "kb", documents: int = 0) -> Collection:
    collection = Collection.objects.create(store="local", name=name, dimension=DIMENSION, index=Collection.Index.MATRIX)
    store.replace(name, [chunk for number in range(documents) for chunk in document(number, 10)])
    return collection


def document(number: int, chunks: int) -> list[Vector]:
    values = np.random.default_rng().standard_normal((chunks, DIMENSION)).astype(np.float32)
    return [vector(f"{number}-{at}", row, parent=f"{number}", number=number) for at, row in enumerate(values)]


def held_matrix() -> matrix.Matrix:
    (only,) = matrix._matrices.values()
    return only


def assert_queries_are_right(name: str = "kb", filter_for: int | None = None) -> None:
    """Compare a query for all vectors with what the table contains."""
    query = Query(ANY, 10_000, filter={} if filter_for is None else {"number": filter_for})
    stored = {
        row.vector_id: float(np.frombuffer(row.values, "<f4") @ ANY / np.linalg.norm(ANY))
        for row in LocalVector.objects.filter(collection__name=name)
        if filter_for is None or row.metadata["number"] == filter_for
    }
    matches = store.query(name, query)
    assert {match.id: match.score for match in matches} == pytest.approx(stored, abs=1e-5)
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
    best = store.query(name, Query(ANY, 7, filter=query.filter))
    assert [match.id for match in best] == [match.id for match in matches[:7]]


def test_the_matrix_follows_all_changes_in_bounded_memory():
    new_collection(documents=30)
    chance = random.Random(1)
    assert_queries_are_right()
    for _ in range(50):
        for number in chance.sample(range(30), chance.randrange(1, 4)):
            if chance.random() < 0.2:
                store.delete_parents("kb", [str(number)])
            else:
                store.replace("kb", document(number, chance.randrange(1, 20)))
        assert_queries_are_right()
        count = LocalVector.objects.count()
        held = held_matrix()
        assert held.blocks is not None
        assert sum(block.count for block in held.blocks) == count
        assert sum(block.size for block in held.blocks) <= count / (1 - matrix.MAX_DELETED) + len(held.blocks)
        assert len(held.blocks) <= 2 * count / (0.75 * held.block_rows) + 2
    store.delete_parents("kb", [str(number) for number in range(30)])
    assert store.query("kb", Query(ANY, 10)) == []


def test_a_replaced_document_reads_only_its_rows():
    new_collection(documents=20)
    assert_queries_are_right()
    before = held_matrix().blocks
    assert before is not None
    store.replace("kb", document(3, 10))
    with CaptureQueriesContext(
        connection,
    ) as captured:
        store.query("kb", Query(ANY, 5))
    reads = [found["sql"] for found in captured if "vectorstores_localvector" in found["sql"]]
    assert not [sql for sql in reads if '"id" >' not in sql and '"id" IN' not in sql]  # only newer rows and the matches
    after = held_matrix().blocks
    assert after is not None
    assert all(one.row_room is other.row_room for one, other in zip(before, after, strict=False))  # nothing was copied
    assert_queries_are_right()


def test_missing_records_of_deletions_are_made_up_for(monkeypatch):
    new_collection(documents=20)
    assert_queries_are_right()
    monkeypatch.setattr(deletions, "MAX_RECORDS", 2)
    for number in range(5):
        store.replace("kb", document(number, 5))
    assert list(VectorDeletion.objects.values_list("number", flat=True)) == [4, 5]
    assert_queries_are_right()


def test_deleting_a_collection_deletes_its_records():
    new_collection(documents=2)
    store.replace("kb", document(1, 5))
    assert VectorDeletion.objects.exists()
    Collection.objects.filter(name="kb").delete()
    assert not VectorDeletion.objects.exists()


def test_a_collection_above_the_limit_is_read_in_blocks(settings: Settings, caplog: pytest.LogCaptureFixture):
    new_collection(documents=20)
    settings.VECTOR_MEMORY_BYTES = 199 * ROW_BYTES
    assert_queries_are_right()
    assert_queries_are_right(filter_for=3)
    assert held_matrix().blocks is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # once, not for each query
    store.delete_parents("kb", ["7"])
    assert_queries_are_right()
    held = held_matrix()
    assert (held.blocks is not None, held.bytes) == (True, 190 * ROW_BYTES)  # now it fits
    for number in range(2):
        store.replace("kb", document(20 + number, 10))
    assert_queries_are_right()
    assert (held.blocks, held.bytes) == (None, 0)


def test_the_least_recently_used_collection_is_evicted(settings: Settings):
    settings.VECTOR_MEMORY_BYTES = 250 * ROW_BYTES
    for name in ("one", "two", "three"):
        new_collection(name, documents=10)
    for name in ("one", "two", "one", "three"):
        assert_queries_are_right(name)
    assert [Collection.objects.get(pk=key[0]).name for key in matrix._matrices] == ["one", "three"]


def test_chatbots_find_their_vectors_loaded(settings: Settings):
    new_collection(documents=10)
    for status in ("published", "draft"):
        Chatbot.objects.create(
            name=status, provider="openai", model="m", status=status, enable_vector_store=True,
            collections=["kb", "missing"] if status == "published" else ["of a draft"],
        )  # fmt: skip
    new_collection("of a draft", documents=1)
    load_vectors()
    with CaptureQueriesContext(connection) as captured:
        assert len(store.query("kb", Query(ANY, 5))) == 5
    assert not [found for found in captured if '"values"' in found["sql"]]
    assert held_matrix().bytes == 100 * ROW_BYTES


def test_frequent_words_are_not_counted_for_every_question(monkeypatch):
    monkeypatch.setattr(keywords, "MAX_TERM_ROWS", 3)
    collection = new_collection()
    texts = ["shoes alpha", "shoes beta", "shoes gamma", "shoes delta", "boots epsilon"]
    store.upsert("kb", [vector(f"{at}", ANY, text) for at, text in enumerate(texts)])
    counted = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            assert keywords.search(collection, "", "shoes or alpha", 5)
        counted.append(sum(found["sql"].count("count(*)") for found in captured))
    assert counted == [2, 1]
    assert keywords.search(collection, "", "boots", 5)
