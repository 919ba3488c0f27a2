"""Exact words are found in Pinecone, Qdrant and Chroma, although only vectors are stored there."""

import logging
import threading

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from django.db import connection

from tests.support.stores.filled import broken_word_index
from tests.support.upstream import answering
from vectorstores.base import Query
from vectorstores.models import Collection
from vectorstores.word_index.hybrid import search

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.parametrize("place", ["pinecone", "qdrant", "chroma"], indirect=True),
]

PUMP = {"id": "pump", "content": "The pump AB-1234 needs a new seal each year.", "metadata": {"title": "Pumps"}}
HOSE = {"id": "hose", "content": "Order the hose as CX-77/9.", "metadata": {"url": "https://shop.example/hose"}}
ERROR = {"id": "error", "content": "KT_500 means that the tank is empty.", "metadata": {"title": "Errors"}}
RETURNS = {"id": "returns", "content": "Das Rückgaberecht gilt 45 Tage.", "metadata": {"title": "Rücksendungen"}}
HOURS = {"id": "hours", "content": "Montags ab neun.", "metadata": {"title": "Öffnungszeiten"}}

QUESTIONS = {
    "Which seal does AB-1234 need?": ["pump"],
    "seal for ab 1234?": ["pump"],
    "What is CX-77/9?": ["hose"],
    "What does KT_500 mean?": ["error"],
    "Wie lange gilt das Rückgaberecht?": ["returns"],
    "Öffnungszeiten?": ["hours"],
}


def test_codes_names_and_compounds_are_found_with_their_cosines(filled):
    filled.upsert(PUMP, HOSE, ERROR, RETURNS, HOURS)
    assert {question: filled.found(question) for question in QUESTIONS} == QUESTIONS
    pump, hose = (filled.passages(question)[-1] for question in ("seal for ab 1234?", "What is CX-77/9?"))
    assert (pump.score, hose.score) == pytest.approx((0.3, 0.3), abs=1e-4)
    assert (pump.text, pump.title, hose.url) == (PUMP["content"], "Pumps", "https://shop.example/hose")


def test_the_store_is_asked_a_second_time_only_for_what_it_has_not_found(filled):
    if filled.place.server is None:
        pytest.skip("a real server records no requests")
    filled.upsert(PUMP)
    filled.passages("Is there any decoy?")
    filled.passages("What about hovercrafts?")
    first, second = filled.queries()
    filled.passages("What is AB-1234?")
    *_, third, looked_up = filled.queries()
    assert [sent.json.get("filter") for sent in (first, second, third)] == [None] * 3
    assert (
        looked_up.json["filter"]
        == {
            "pinecone": {"$and": [{"vector_id": {"$in": ["pump"]}}]},
            "qdrant": {"must": [{"should": [{"key": "vector_id", "match": {"value": "pump"}}]}]},
        }[filled.place.name]
    )
    assert looked_up.json.get("topK", looked_up.json.get("limit")) == 1


@pytest.mark.parametrize(("top_k", "asked_for"), [(1, 50), (3, 50), (20, 80)])
def test_the_store_is_asked_for_enough_vectors_to_rank(filled, top_k, asked_for):
    if filled.place.name != "qdrant":
        pytest.skip("one store is enough: the search is above the drivers")
    assert len(filled.passages("Is there any decoy?", top_k=top_k)) == top_k
    (sent,) = filled.queries()
    assert sent.json["limit"] == asked_for


def test_top_k_limits_what_words_find(filled):
    filled.upsert(*({"id": f"part-{at}", "content": f"Part {at} fits AB-1234."} for at in range(30)))
    assert len(filled.passages("What fits AB-1234?", top_k=2)) == 2
    assert len(filled.passages("What fits AB-1234?", top_k=20)) == 20


def test_words_of_chunks_that_the_store_no_longer_has_are_no_matches(filled):
    filled.upsert(PUMP, HOSE)
    filled.place.store.delete_parents(filled.target, ["pump"])  # by another program
    assert filled.words().keys() == {"pump", "hose"}
    assert filled.found("What is AB-1234?") == []
    assert filled.found("What is CX-77/9?") == ["hose"]


def test_a_collection_without_words_is_searched_by_vectors(filled):
    filled.upsert(PUMP)
    filled.collection.vectors.all().delete()  # as after an upgrade
    assert filled.found("What is AB-1234?") == []
    assert len(filled.passages("What is AB-1234?")) == 2
    Collection.objects.all().delete()  # filled by another program
    assert len(filled.passages("What is AB-1234?")) == 2


def test_the_setting_turns_words_off(filled):
    filled.upsert(PUMP)
    Collection.objects.update(searches_words=False)
    assert filled.found("What is AB-1234?") == []
    filled.upsert(HOSE, {**PUMP, "content": "The pump CD-5678."})
    assert filled.words() == {}  # nothing is added, and what has changed is deleted
    Collection.objects.update(searches_words=True)
    filled.upsert(HOSE)
    assert filled.found("What is CX-77/9?") == ["hose"]


def test_namespaces_are_searched_separately(filled):
    filled.upsert(PUMP)
    if not filled.place.store.has_namespaces:
        assert filled.found("What is AB-1234?", namespace="ignored") == ["pump"]
        return
    filled.upsert(*[{**HOSE, "content": "AB-1234 in blue"}], namespace="blue")
    assert filled.found("What is AB-1234?", namespace="blue") == ["hose"]
    assert filled.found("What is AB-1234?") == ["pump"]
    assert (filled.words().keys(), filled.words("blue").keys()) == ({"pump"}, {"hose"})


def test_the_words_are_searched_while_the_store_answers(filled):
    if filled.place.name != "qdrant":
        pytest.skip("one store is enough: the search is above the drivers")
    server, path = filled.place.server, f"/collections/{filled.target}/points/query"
    store_is_asked, words_are_asked, met = threading.Event(), threading.Event(), []

    def answer_late(connection):
        store_is_asked.set()
        met.append(words_are_asked.wait(10))
        server.play(connection)

    def execute_late(execute, statement, *arguments):
        if "FROM vectorstores_keywords" in statement or "keywords @@" in statement:
            words_are_asked.set()
            met.append(store_is_asked.wait(10))
        return execute(statement, *arguments)

    server.pages[path] = answer_late
    with connection.execute_wrapper(execute_late):
        filled.passages("Is there any decoy?")
    assert len(met) >= 2
    assert all(met)


def test_a_filter_applies_to_what_words_find(filled):
    filled.upsert(*({**PUMP, "id": name, "metadata": {"color": name}} for name in ("red", "blue")))
    query = Query(np.array([1.0, 0.0, 0.0, 0.0], np.float32), 5, "What is AB-1234?", {"color": "blue"})
    matches = async_to_sync(search)(filled.place.store, filled.target, query)
    assert [match.id for match in matches] == ["blue"]


def test_a_failure_of_the_second_query_keeps_the_first_matches(filled, caplog):
    if filled.place.name != "qdrant":
        pytest.skip("one store is enough: the failure is handled above the drivers")
    filled.upsert(PUMP)
    server = filled.place.server
    server.queue += [server.play, answering({"status": {"error": "Out of order"}}, 500)]
    assert len(filled.passages("What is AB-1234?")) == 2
    assert "Out of order" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_failure_of_the_word_index_keeps_the_vectors_matches(filled, caplog):
    filled.upsert(PUMP)
    with broken_word_index(), caplog.at_level(logging.WARNING):
        assert len(filled.passages("What is AB-1234?")) == 2
    assert "cannot be searched" in caplog.text
    assert filled.found("What is AB-1234?") == ["pump"]
