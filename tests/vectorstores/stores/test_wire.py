"""Requests to the stores: the same as AI Puffer's, except for the differences in docs/compatibility.md."""

import numpy as np
import pytest

from tests.support.stores.canned import CHROMA, CHROMA_ID, KEY
from vectorstores.base import Query, StoreSettings
from vectorstores.registry import STORES
from vectorstores.stores.qdrant import point_id

TEXT = "Hello world. Returns are accepted within 45 days."
ITEM = {"id": "doc-1", "content": TEXT, "metadata": {"topic": "returns"}, "uri": "https://x.example/a"}
METADATA = {
    "topic": "returns",
    "uri": "https://x.example/a",
    "source": "text_entry_global_form",
    "vector_id": "doc-1",
    "parent_vector_id": "doc-1",
    "chunk_index": 0,
    "total_chunks": 1,
    "char_start": 0,
    "char_end": 49,
}
HEADERS = {
    "pinecone": {"Api-Key": KEY, "X-Pinecone-API-Version": "2025-04"},
    "qdrant": {"api-key": KEY},
    "chroma": {"x-chroma-token": KEY},
}


def in_document(document):
    return {"$or": [{"parent_vector_id": {"$in": [document]}}, {"vector_id": {"$in": [document]}}]}


def chunks_of_older_version(document, total):
    return {"$and": [in_document(document), {"total_chunks": {"$ne": total}}]}


def keyword_index(name):
    return ("PUT", "/collections/kb/index?wait=true", {"field_name": name, "field_schema": "keyword"})


# First the requests before the text is embedded, then the upsert, then the deletion of an older version's chunks.
REQUESTS = {
    "pinecone": lambda vector: [
        ("GET", "/indexes/kb", None),
        ("POST", "/describe_index_stats", {}),
        (
            "POST",
            "/vectors/upsert",
            {
                "vectors": [{"id": "doc-1", "values": vector, "metadata": METADATA | {"original_content": TEXT}}],
                "namespace": "blue",
            },
        ),
        ("POST", "/vectors/delete", {"filter": chunks_of_older_version("doc-1", 1), "namespace": "blue"}),
    ],
    "qdrant": lambda vector: [
        ("GET", "/collections/kb", None),
        ("POST", "/collections/kb/points/count", {"exact": True}),
        (
            "PUT",
            "/collections/kb/points?wait=true",
            {"points": [{"id": point_id("doc-1"), "vector": vector, "payload": METADATA | {"original_content": TEXT}}]},
        ),
        keyword_index("parent_vector_id"),
        keyword_index("vector_id"),
        (
            "POST",
            "/collections/kb/points/delete?wait=true",
            {
                "filter": {
                    "should": [
                        {"key": "parent_vector_id", "match": {"any": ["doc-1"]}},
                        {"key": "vector_id", "match": {"any": ["doc-1"]}},
                    ],
                    "must_not": [{"has_id": [point_id("doc-1")]}],
                }
            },
        ),
    ],
    "chroma": lambda vector: [
        ("GET", f"{CHROMA}?limit=200&offset=0", None),
        ("GET", f"{CHROMA}/{CHROMA_ID}/count", None),
        ("POST", f"{CHROMA}/{CHROMA_ID}/get", {"ids": ["doc-1"], "include": ["metadatas"]}),
        (
            "POST",
            f"{CHROMA}/{CHROMA_ID}/upsert",
            {
                "ids": ["doc-1"],
                "embeddings": [vector],
                "documents": [TEXT],
                "metadatas": [METADATA],
                "uris": ["https://x.example/a"],
            },
        ),
        ("POST", f"{CHROMA}/{CHROMA_ID}/delete", {"where": chunks_of_older_version("doc-1", 1)}),
    ],
}


def requests(server):
    return [(sent.method, sent.target, sent.json if sent.body else None) for sent in server.sent]


def test_an_upsert_sends_these_requests(api, openai, server, slug):
    openai.serves("/v1/embeddings", {"data": [{"index": 0, "embedding": [0.5, -0.25] * 32}]})
    response = api.post(
        "/vector-stores/upsert",
        json={
            "provider": slug,
            "target_id": "kb",
            "vectors": [ITEM],
            "embedding_provider": "openai",
            "embedding_model": "emb-1",
            "namespace": "blue",
        },
    )
    assert response.json() == {
        "upserted_count": 1,
        "status": "success",
        "source_count": 1,
        "total_chunks": 1,
        "results": [{"parent_vector_id": "doc-1", "upserted_count": 1, "total_chunks": 1}],
    }
    assert openai.sent[0].json == {"input": [TEXT], "model": "emb-1", "encoding_format": "float"}
    assert requests(server) == REQUESTS[slug]([0.5, -0.25] * 32)
    for sent in server.sent:
        assert HEADERS[slug].items() <= dict(sent.headers).items()
        assert sent.headers["Accept"] == "application/json"
        assert sent.headers["Content-Type"] == ("application/json" if sent.body else None)


QUERIES = {
    "pinecone": (
        "/query",
        {
            "vector": [0.5, -0.25],
            "topK": 3,
            "includeMetadata": True,
            "includeValues": False,
            "namespace": "blue",
            "filter": {"$and": [{"topic": {"$eq": "returns"}}, {"year": {"$in": [2025, 2026]}}]},
        },
        {"matches": [{"id": "doc-1", "score": 0.75, "metadata": {"original_content": TEXT, "topic": "returns"}}]},
    ),
    "qdrant": (
        "/collections/kb/points/query",
        {
            "query": [0.5, -0.25],
            "limit": 3,
            "with_payload": True,
            "with_vector": False,
            "filter": {
                "must": [
                    {"key": "topic", "match": {"value": "returns"}},
                    {
                        "should": [
                            {"key": "year", "range": {"gte": 2025, "lte": 2025}},
                            {"key": "year", "range": {"gte": 2026, "lte": 2026}},
                        ]
                    },
                ]
            },
        },
        {
            "result": {
                "points": [
                    # A point as AI Puffer writes it, with a numeric Qdrant id.
                    {
                        "id": 7,
                        "score": 0.75,
                        "payload": {"original_content": TEXT, "topic": "returns", "vector_id": "doc-1"},
                    }
                ]
            }
        },
    ),
    "chroma": (
        f"{CHROMA}/{CHROMA_ID}/query",
        {
            "query_embeddings": [[0.5, -0.25]],
            "n_results": 3,
            "include": ["documents", "metadatas", "distances"],
            "where": {"$and": [{"topic": {"$eq": "returns"}}, {"year": {"$in": [2025, 2026]}}]},
        },
        {"ids": [["doc-1"]], "distances": [[0.25]], "documents": [[TEXT]], "metadatas": [[{"topic": "returns"}]]},
    ),
}  # fmt: skip


def test_a_query_sends_this_request(server, slug):
    path, body, answer = QUERIES[slug]
    server.serves(path, answer)
    store = STORES[slug](StoreSettings(KEY, server.url))
    query = Query(np.array([0.5, -0.25], np.float32), 3, "a question", {"topic": "returns", "year": [2025, 2026]})
    (match,) = store.query("kb", query, "blue")
    assert (match.id, match.score, match.text, match.metadata["topic"]) == ("doc-1", 0.75, TEXT, "returns")
    assert requests(server)[-1] == ("POST", path, body)


@pytest.mark.parametrize("slug", ["qdrant"])
def test_an_older_qdrant_is_queried_through_its_search_endpoint(server, slug):
    point = {"id": 1, "score": 0.75, "payload": {"vector_id": "doc-1", "original_content": TEXT}}
    server.serves("/collections/kb/points/query", {"status": {"error": "Not Found"}}, 404)
    server.serves("/collections/kb/points/search", {"result": [point]})
    store = STORES[slug](StoreSettings(KEY, server.url))
    (match,) = store.query("kb", Query(np.array([0.5, -0.25], np.float32), 3))
    assert (match.id, match.score, match.text) == ("doc-1", 0.75, TEXT)
    body = {"vector": [0.5, -0.25], "limit": 3, "with_payload": True, "with_vector": False}
    assert requests(server)[-1] == ("POST", "/collections/kb/points/search", body)


@pytest.mark.parametrize("slug", ["pinecone"])
def test_a_repeated_pagination_token_ends_the_scan(server, slug):
    page = {"vectors": [{"id": "a"}], "pagination": {"next": "again"}}
    for query in ("limit=100", "limit=100&paginationToken=again"):
        server.serves(f"/vectors/list?{query}", page)
    server.serves("/vectors/fetch?ids=a", {"vectors": {"a": {"id": "a", "values": [1.0, 0.0], "metadata": {}}}})
    store = STORES[slug](StoreSettings(KEY, server.url))
    assert {vector.id for vector in store.scan("kb")} == {"a"}


@pytest.mark.parametrize("slug", ["pinecone"])
def test_without_a_namespace_none_is_sent(server, slug):
    server.serves("/query", {"matches": []})
    store = STORES[slug](StoreSettings(KEY, server.url))
    assert store.query("kb", Query(np.ones(64, np.float32), 3)) == []
    assert "namespace" not in server.sent[-1].json
    assert "filter" not in server.sent[-1].json


def test_creating_a_collection_sends_this_request(slug, server):
    store = STORES[slug](StoreSettings(KEY, server.url))
    path, name = {
        "pinecone": ("/indexes", "new"),
        "qdrant": ("/collections/new", "new"),
        "chroma": (CHROMA, "new"),
    }[slug]
    server.serves("/indexes", {"indexes": []})
    server.serves("/indexes/new", {"status": {"ready": True}})
    server.serves("/collections", {"result": {"collections": []}})
    server.serves("/collections/new", {"result": True})
    server.serves(CHROMA, {"id": CHROMA_ID})
    store.create(name, 1536)
    assert (
        next(request for request in requests(server) if request[0] in ("POST", "PUT"))
        == {
            "pinecone": (
                "POST",
                path,
                {
                    "name": "new",
                    "dimension": 1536,
                    "metric": "cosine",
                    "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}},
                },
            ),
            "qdrant": ("PUT", path, {"vectors": {"size": 1536, "distance": "Cosine"}}),
            "chroma": (
                "POST",
                path,
                {"name": "new", "configuration": {"hnsw": {"space": "cosine"}}, "get_or_create": True},
            ),
        }[slug]
    )


def test_creating_a_pinecone_index_waits_until_it_is_ready(pinecone_server):
    pinecone_server.polls_until_ready = 2
    store = STORES["pinecone"](StoreSettings(pinecone_server.api_key, pinecone_server.url))
    store.create("kb", 4)
    assert pinecone_server.description("kb")["status"]["ready"]
    assert [sent.method for sent in pinecone_server.sent].count("POST") == 1


def test_the_host_of_a_pinecone_index_is_cached(pinecone_server):
    store = STORES["pinecone"](StoreSettings(pinecone_server.api_key, pinecone_server.url))
    store.create("kb", 4)
    pinecone_server.sent.clear()
    for _ in range(3):
        store.query("kb", Query(np.ones(4, np.float32), 3))
    assert [sent.target for sent in pinecone_server.sent] == ["/indexes/kb"]


def test_payload_indexes_of_a_qdrant_collection_are_created_once(qdrant_server):
    store = STORES["qdrant"](StoreSettings(qdrant_server.api_key, qdrant_server.url))
    store.create("kb", 4)
    for _ in range(3):
        store.delete_parents("kb", ["a"])
        store.describe("kb")
    assert [sent.path for sent in qdrant_server.sent].count("/collections/kb/index") == 2
