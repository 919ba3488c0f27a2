"""All vector stores through the API."""

import pytest

from tests.support.stores.vectors import scan_all, vector

URL = "/vector-stores/upsert"


def payload(place, target, *vectors, **more):
    return {
        "provider": place.store.slug,
        "target_id": target,
        "vectors": list(vectors),
        "embedding_provider": "openai",
        "embedding_model": "emb-1",
        **more,
    }


def test_the_api_upserts_into_every_store(api, openai, configured_place):
    place = configured_place
    target = place.new_collection(dimension=64)
    limit = place.store.max_chunk_characters or 6000
    first = {"id": "doc 1", "content": "x" * (limit + 1), "metadata": {"topic": "x"}, "uri": "https://x.example/a"}
    response = api.post(URL, json=payload(place, target, first, {"content": "We ship on Mondays."}))
    assert response.status_code == 200, response.text
    assert response.json()["upserted_count"] == 3
    assert scan_all(place, target).keys() >= {"doc_1_chunk_0", "doc_1_chunk_1"}
    again = {"id": "doc 1", "content": "Returns are accepted within 45 days.", "metadata": {"tags": ["a", "b"]}}
    response = api.post(URL, json=payload(place, target, again))
    assert response.json()["results"] == [{"parent_vector_id": "doc_1", "upserted_count": 1, "total_chunks": 1}]
    found = scan_all(place, target)
    assert sorted(one.text for one in found.values()) == [again["content"], "We ship on Mondays."]
    assert "topic" not in found["doc_1"].metadata


def test_upserting_another_dimension_is_a_mismatch(api, openai, configured_place):
    place = configured_place
    target = place.new_collection()
    place.store.upsert(target, [vector("a")])
    response = api.post(URL, json=payload(place, target, {"id": "a", "content": "x"}))
    assert (response.status_code, response.json()["code"]) == (400, "vector_dimension_mismatch")
    assert response.json()["message"] == "Vector dimension mismatch. Expected 4, got 64."
    assert scan_all(place, target)["a"].text == "text"


def test_a_missing_collection_is_404(api, openai, configured_place):
    if configured_place.store.in_database:
        pytest.skip("the local store creates collections on the first upsert")
    response = api.post(URL, json=payload(configured_place, "missing", {"id": "a", "content": "x"}))
    assert (response.status_code, response.json()["code"]) == (404, "vector_collection_not_found")
    assert not openai.sent
