"""POST /vector-stores/upsert: validation, the stored vectors, and the response to a partial failure."""

import json
from typing import Any

import pytest

from tests.support.upstream import answering, embedding
from vectorstores.base import StoreSettings
from vectorstores.models import Collection, Document
from vectorstores.stores.local.driver import Local

URL = "/vector-stores/upsert"


def payload(*vectors: Any, **changes: Any) -> dict[str, Any]:
    return {
        "provider": "local",
        "target_id": "kb",
        "vectors": list(vectors),
        "embedding_provider": "openai",
        "embedding_model": "emb-1",
        **changes,
    }


def stored_vectors(target="kb", namespace=""):
    return {vector.id: vector for vector in Local(StoreSettings()).scan(target, namespace)}


def test_texts_are_embedded_and_stored(api, openai):
    response = api.post(
        URL,
        json=payload(
            {"id": "doc-1", "content": "Returns are accepted within 45 days.", "metadata": {"topic": "returns"}},
            {"content": "We ship on Mondays.", "uri": "https://x.example/a"},
        ),
    )
    answer = response.json()
    generated_id = answer["results"][1]["parent_vector_id"]
    assert response.status_code == 200
    assert generated_id.startswith("text_")
    assert answer == {
        "upserted_count": 2,
        "status": "success",
        "source_count": 2,
        "total_chunks": 2,
        "results": [
            {"parent_vector_id": "doc-1", "upserted_count": 1, "total_chunks": 1},
            {"parent_vector_id": generated_id, "upserted_count": 1, "total_chunks": 1},
        ],
    }
    assert openai.sent[0].json["input"] == ["Returns are accepted within 45 days.", "We ship on Mondays."]
    vectors = stored_vectors()
    assert vectors["doc-1"].text == "Returns are accepted within 45 days."
    assert vectors["doc-1"].metadata == {
        "topic": "returns",
        "source": "text_entry_global_form",
        "vector_id": "doc-1",
        "parent_vector_id": "doc-1",
        "chunk_index": 0,
        "total_chunks": 1,
        "char_start": 0,
        "char_end": 36,
    }
    assert vectors[generated_id].metadata["uri"] == "https://x.example/a"
    assert Document.objects.get(parent_vector_id="doc-1").chunks == 1
    collection = Collection.objects.get()
    assert (collection.dimension, collection.embedding_provider, collection.embedding_model) == (64, "openai", "emb-1")


@pytest.mark.parametrize(
    ("length", "spans"),
    [
        (6000, [(0, 6000)]),
        (6001, [(0, 6000), (5400, 6001)]),
        (12000, [(0, 6000), (5400, 11400), (10800, 12000)]),
    ],
)
def test_long_texts_are_chunked_with_an_overlap(api, openai, length, spans):
    text = ("0123456789" * 1200)[:length]
    answer = api.post(URL, json=payload({"id": "long", "content": text})).json()
    assert answer["upserted_count"] == answer["results"][0]["total_chunks"] == len(spans)
    vectors = stored_vectors()
    ids = ["long"] if len(spans) == 1 else [f"long_chunk_{index}" for index in range(len(spans))]
    assert sorted(vectors) == sorted(ids)
    for index, (vector_id, (start, end)) in enumerate(zip(ids, spans, strict=True)):
        assert vectors[vector_id].text == text[start:end]
        metadata = vectors[vector_id].metadata
        assert (metadata["chunk_index"], metadata["total_chunks"]) == (index, len(spans))
        assert (metadata["char_start"], metadata["char_end"]) == (start, end)


@pytest.mark.parametrize(("before", "after"), [(13000, 10), (10, 13000), (13000, 7000), (10, 10)])
def test_the_same_id_replaces_all_chunks_of_the_old_text(api, openai, before, after):
    for length in (before, after):
        response = api.post(URL, json=payload({"id": "doc", "content": "x" * length}, {"id": "other", "content": "y"}))
        assert response.status_code == 200
    vectors = stored_vectors()
    assert len(vectors) == response.json()["upserted_count"]
    assert {vector.metadata["parent_vector_id"] for vector in vectors.values()} == {"doc", "other"}
    assert Document.objects.count() == 2


def test_the_last_of_two_texts_with_the_same_id_is_stored(api, openai):
    answer = api.post(URL, json=payload({"id": "a", "content": "first"}, {"id": "a", "content": "second"})).json()
    assert answer["source_count"] == 2
    assert [vector.text for vector in stored_vectors().values()] == ["second"]


@pytest.mark.parametrize(
    ("item", "parent_id"),
    [
        ({"id": "doc 1/ü"}, "doc_1"),
        ({"id": "a" * 100}, "a" * 80),
        ({"id": "given", "metadata": {"parent_vector_id": "p", "id": "m"}}, "p"),
        ({"metadata": {"id": 5}}, "5"),
        ({"id": "  ", "metadata": {"id": "m"}}, "m"),
    ],
)
def test_the_parent_id_of_a_text(api, openai, item, parent_id):
    results = api.post(URL, json=payload({"content": "x", **item})).json()["results"]
    assert results[0]["parent_vector_id"] == parent_id


@pytest.mark.parametrize("item", [{}, {"id": ""}, {"id": "--.._"}, {"metadata": {"id": True}}])
def test_a_text_without_an_id_gets_a_generated_one(api, openai, item):
    results = api.post(URL, json=payload({"content": "x", **item})).json()["results"]
    assert results[0]["parent_vector_id"].startswith("text_")


def test_metadata_is_sanitized(api, openai):
    metadata = {
        "Topic Name!": " <b>Shoes</b>\nand <i>socks</i> ", "price": 9.5, "sold": True, "tags": ["a", "<b>b</b>"],
        "nested": {"a": 1}, "none": None, "mixed": ["a", 1], "original_content": "forged", "chunk_index": 99,
        "source": "My Shop", "": "x", "vector_id": "forged",
    }  # fmt: skip
    api.post(URL, json=payload({"id": "a", "content": "x", "metadata": metadata}))
    kept = stored_vectors()["a"].metadata
    assert kept == {
        "topicname": "Shoes and socks", "price": 9.5, "sold": True, "tags": ["a", "b"], "source": "myshop",
        "vector_id": "a", "parent_vector_id": "a", "chunk_index": 0, "total_chunks": 1, "char_start": 0, "char_end": 1,
    }  # fmt: skip


def test_a_title_is_embedded_with_the_text(api, openai):
    api.post(URL, json=payload({"id": "a", "content": "Within 45 days.", "metadata": {"title": "Returns"}}))
    assert openai.sent[0].json["input"] == ["Returns\nWithin 45 days."]
    assert stored_vectors()["a"].text == "Within 45 days."


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"vectors": []}, 400, "rest_aipkit_invalid_vectors"),
        ({"vectors": [{"content": "x"}] * 1001}, 400, "rest_aipkit_invalid_vectors"),
        ({"vectors": [{"content": "x"}] * 10_001}, 400, "rest_invalid_param"),
        ({"vectors": [{"content": "x", "metadata": {str(n): n for n in range(201)}}]}, 400, "rest_invalid_param"),
        ({"vectors": [{"content": "\u200b"}]}, 400, "rest_aipkit_no_content"),
        ({"vectors": [{"content": "good"}, {"content": " \n"}]}, 400, "rest_aipkit_no_content"),
        ({"vectors": [{"content": "good"}, {"content": "\x00"}]}, 400, "rest_aipkit_no_content"),
        ({"vectors": [{"content": "good"}, {"id": "x"}]}, 400, "rest_invalid_param"),
        ({"vectors": [{"content": "x", "id": 5}]}, 400, "rest_invalid_param"),
        ({"vectors": [{"content": "x", "metadata": "none"}]}, 400, "rest_invalid_param"),
        ({"vectors": "x"}, 400, "rest_invalid_param"),
        ({"target_id": " "}, 400, "missing_vector_text_target"),
        ({"embedding_model": " "}, 400, "missing_vector_text_embedding_config"),
        ({"provider": "faiss"}, 400, "rest_invalid_param"),
        ({"embedding_provider": "claude"}, 400, "rest_invalid_param"),
        ({"provider": "pinecone"}, 503, "missing_api_key_pinecone"),
        ({"provider": "qdrant"}, 503, "missing_qdrant_url"),
        ({"provider": "chroma"}, 503, "missing_chroma_url"),
    ],
)
def test_invalid_calls_send_nothing(api, openai, changes, status, code):
    response = api.post(URL, json=payload({"content": "x"}, **changes))
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert not openai.sent
    assert not Document.objects.exists()


def test_another_model_with_another_dimension_is_refused(api, openai):
    assert api.post(URL, json=payload({"id": "a", "content": "x"})).status_code == 200
    openai.pages["/v1/embeddings"] = embedding(32)
    response = api.post(URL, json=payload({"id": "a", "content": "y"}, embedding_model="emb-2"))
    assert response.status_code == 400
    assert response.json()["code"] == "vector_dimension_mismatch"
    assert "Expected 64, got 32" in response.json()["message"]
    assert stored_vectors()["a"].text == "x"


def test_a_known_dimension_mismatch_is_refused_before_embedding(api, openai):
    api.post(URL, json=payload({"id": "a", "content": "x"}))
    openai.sent.clear()
    response = api.post(URL, json=payload({"id": "a", "content": "y"}, embedding_model="text-embedding-3-small"))
    assert response.json()["code"] == "vector_dimension_mismatch"
    assert not openai.sent


def test_a_partial_failure_reports_what_is_stored(api, openai):
    answer_normally, calls = embedding(), []

    def fail_batch_with_bad_text(connection):
        calls.append(1)
        if any("bad" in text for text in connection.server.sent[-1].json["input"]):
            answering({"error": {"message": "slow down"}}, 429, {"Retry-After": "7"})(connection)
        else:
            answer_normally(connection)

    openai.pages["/v1/embeddings"] = fail_batch_with_bad_text
    items = [{"id": f"d{n}", "content": "bad" if n == 120 else f"text {n}"} for n in range(150)]
    response = api.post(URL, json=payload(*items))
    answer = response.json()
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "7"
    assert answer["code"] == "openai_embedding_api_error_logic"
    # Each call embeds fifty texts, and a batch is stored completely or not at all. Text 120 is in the third batch.
    assert answer["data"] == {"status": 429, "completed_sources": 100, "failed_source_index": 100}
    assert sorted(stored_vectors()) == sorted(f"d{n}" for n in range(100))
    assert Document.objects.filter(status="failed").count() == 50
    openai.pages["/v1/embeddings"] = answer_normally
    assert api.post(URL, json=payload(*items)).json()["upserted_count"] == 150
    assert len(stored_vectors()) == 150
    assert not Document.objects.filter(status="failed").exists()


def test_many_texts_are_embedded_in_batches(api, openai):
    items = [{"id": f"d{n}", "content": f"text {n}"} for n in range(230)]
    assert api.post(URL, json=payload(*items)).json()["upserted_count"] == 230
    assert sorted(len(sent.json["input"]) for sent in openai.sent) == [30, 50, 50, 50, 50]


def test_a_batch_with_a_wrong_vector_count_is_retried_text_by_text(api, openai):
    answer_normally = embedding()

    def one_vector_for_many_texts(connection):
        texts = connection.server.sent[-1].json["input"]
        if len(texts) > 1:
            answering({"data": [{"index": 0, "embedding": [1.0] * 64}]})(connection)
        else:
            answer_normally(connection)

    openai.pages["/v1/embeddings"] = one_vector_for_many_texts
    assert api.post(URL, json=payload({"content": "a"}, {"content": "b"}, {"content": "c"})).status_code == 200
    assert [sent.json["input"] for sent in openai.sent] == [["a", "b", "c"], ["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        ({"data": []}, 502, "vector_text_embedding_count_mismatch"),
        ({"data": [{"index": 0, "embedding": []}]}, 502, "openai_embedding_no_data_logic"),
        (b'{"data": [{"index": 0, "embedding": [NaN, 1.0]}]}', 502, "openai_embedding_no_data_logic"),
        ({"data": [{"index": 0, "embedding": [1.0, "x"]}]}, 502, "openai_embedding_no_data_logic"),
        ({"data": [{"index": 0, "embedding": [1e300, 1.0]}]}, 502, "openai_embedding_no_data_logic"),
        (b"<html>", 502, "openai_embedding_no_data_logic"),
    ],
)
def test_invalid_embeddings_are_not_stored(api, openai, answer, status, code):
    openai.pages["/v1/embeddings"] = answering(answer)
    response = api.post(URL, json=payload({"id": "a", "content": "x"}))
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["data"]["completed_sources"] == 0
    assert not Collection.objects.exists()


def test_namespaces_of_the_local_store_are_separate(api, openai):
    for namespace in ("", "blue"):
        api.post(URL, json=payload({"id": "a", "content": f"in {namespace}"}, namespace=namespace))
    assert stored_vectors()["a"].text == "in "
    assert stored_vectors(namespace="blue")["a"].text == "in blue"


def test_a_body_larger_than_ten_megabytes_is_413(api, openai):
    response = api.post(URL, content=json.dumps(payload({"content": "x" * 11_000_000})).encode(),
                        headers={"Content-Type": "application/json"})  # fmt: skip
    assert (response.status_code, response.json()["code"]) == (413, "rest_request_too_large")


def test_a_key_without_the_scope_is_403(api, api_key, openai):
    api_key.scopes = ["chat"]
    api_key.save()
    assert api.post(URL, json=payload({"content": "x"})).status_code == 403
    assert not openai.sent
