"""Queries in all vector stores: filters, order, scores."""

import numpy as np
import pytest

from tests.support.stores.vectors import ids_of, random_vectors, scan_all, search, vector
from vectorstores.base import Metric

FILTERED = [
    {"topic": "shoes", "price": 10, "rate": 0.5, "new": True, "tags": ["red", "blue"]},
    {"topic": "socks", "price": 5, "rate": 1.0, "new": False, "tags": ["red"]},
    {"topic": "shoes", "price": 30, "rate": 2.5, "new": False, "tags": ["x"]},
    {"topic": "10", "number": "1", "flag": 1, "mixed": 2.0},
]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"topic": "shoes"}, {"0", "2"}),
        ({"topic": ["socks", "hats", "10"]}, {"1", "3"}),
        ({"topic": "shoe"}, set()),
        ({"price": 10}, {"0"}),
        ({"price": [10, 30]}, {"0", "2"}),
        ({"rate": 2.5}, {"2"}),
        ({"rate": 1.0}, {"1"}),
        ({"rate": [0.5, 2.5]}, {"0", "2"}),
        ({"rate": 1}, {"1"}),  # integers equal floats
        ({"mixed": 2}, {"3"}),
        ({"price": 5.0}, {"1"}),
        ({"new": True}, {"0"}),
        ({"new": False}, {"1", "2"}),
        ({"number": 1}, set()),  # no text equals a number
        ({"flag": True}, set()),  # no number equals a boolean
        ({"topic": "shoes", "new": False}, {"2"}),
        ({"topic": "shoes", "price": [5, 30], "new": False}, {"2"}),
        ({"parent_vector_id": ["0", "1"]}, {"0", "1"}),
        ({"parent_vector_id": "2"}, {"2"}),
        ({"tags": "red"}, {"0", "1"}),
        ({"tags": ["blue", "x"]}, {"0", "2"}),
        ({"missing": "x"}, set()),
    ],
)
def test_filters(place, target, condition, found):
    if "tags" in condition and not place.store.keeps_lists:
        pytest.skip(f"{place.store.label} stores lists as JSON, which filters cannot search")
    place.store.upsert(target, [vector(str(at), **metadata) for at, metadata in enumerate(FILTERED)])
    assert set(ids_of(search(place, target, **condition))) == found


NEIGHBORS = [
    ("same", (2.0, 0.0, 0.0, 0.0), 1.0),
    ("near", (0.8, 0.6, 0.0, 0.0), 0.8),
    ("far", (0.1, 0.0, 0.0, 0.995), 0.1),
    ("across", (0.0, 3.0, 0.0, 0.0), 0.0),
    ("against", (-5.0, 0.0, 0.0, 0.0), -1.0),
]


@pytest.mark.parametrize("length", [1.0, 0.01, 40.0])
def test_matches_are_sorted_and_scores_are_cosines(place, target, length):
    place.store.upsert(target, [vector(vector_id, values, f"is {vector_id}") for vector_id, values, _ in NEIGHBORS])
    matches = search(place, target, (length, 0.0, 0.0, 0.0))
    assert [match.score for match in matches] == pytest.approx([cosine for *_, cosine in NEIGHBORS], abs=1e-4)
    assert ids_of(matches) == [vector_id for vector_id, *_ in NEIGHBORS]
    assert matches[1].text == "is near"
    assert matches[1].metadata["parent_vector_id"] == "near"
    assert "original_content" not in matches[1].metadata
    assert ids_of(search(place, target, (length, 0.0, 0.0, 0.0), top_k=2)) == ["same", "near"]


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.EUCLIDEAN])
def test_scores_are_cosines_for_every_metric(place, metric):
    if place.store.in_database:
        pytest.skip("the local store supports the cosine metric only")
    target = place.new_collection(metric)
    place.store.upsert(target, [vector(vector_id, values) for vector_id, values, _ in NEIGHBORS])
    assert place.store.describe(target).metric is metric
    matches = search(place, target, (3.0, 0.0, 0.0, 0.0))
    assert {match.id: match.score for match in matches} == pytest.approx(
        {vector_id: cosine for vector_id, _, cosine in NEIGHBORS}, abs=1e-4
    )
    assert ids_of(matches) == [vector_id for vector_id, *_ in NEIGHBORS]


def test_the_best_matches_of_many_vectors_are_found(place, target):
    vectors = random_vectors(250)
    place.store.upsert(target, vectors)
    query_values = np.array([0.3, -0.2, 0.9, 0.1], np.float32)
    cosines = {
        one.id: float(one.values @ query_values / np.linalg.norm(one.values) / np.linalg.norm(query_values))
        for one in vectors
    }
    matches = search(place, target, query_values, top_k=20)
    assert ids_of(matches) == sorted(cosines, key=cosines.__getitem__, reverse=True)[:20]
    assert [match.score for match in matches] == pytest.approx([cosines[match.id] for match in matches], abs=1e-4)


def test_a_zero_vector_has_no_similarity(place, target):
    if place.name == "pinecone":
        pytest.skip("Pinecone rejects zero vectors")
    place.store.upsert(target, [vector("zeros", (0.0, 0.0, 0.0, 0.0)), vector("a")])
    assert scan_all(place, target).keys() == {"zeros", "a"}
    scores = {match.id: match.score for match in search(place, target)}
    assert scores["a"] == pytest.approx(1.0)
    assert scores.get("zeros", 0.0) == pytest.approx(0.0)
