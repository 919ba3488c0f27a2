"""Canned answers of vector stores, for tests that check the requests or replace an answer with a wrong one."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.upstream import Upstream

KEY = "key-0123456789abcdef"
CHROMA = "/api/v2/tenants/default_tenant/databases/default_database/collections"
CHROMA_ID = "2f3b0a64-6d2e-4c1c-9d5e-9f0a4b0a7c11"


@dataclass(frozen=True)
class Wire:
    """The answers of a store whose collection is empty, and the format of its errors."""

    first: str  # path of the first request of an import
    write: str  # path of an upsert
    pages: Callable[[Upstream], dict[str, object]]
    error: Callable[[str], object]  # message to error body


WIRES = {
    "pinecone": Wire(
        first="/indexes/kb",
        write="/vectors/upsert",
        pages=lambda server: {
            "/indexes/kb": {"dimension": 64, "metric": "cosine", "host": f"127.0.0.1:{server.server_port}"},
            "/describe_index_stats": {"totalVectorCount": 0},
            "/vectors/upsert": {"upsertedCount": 1},
            "/vectors/delete": {},
        },
        error=lambda words: {"error": {"code": "SOMETHING", "message": words}, "status": 400},
    ),
    "qdrant": Wire(
        first="/collections/kb",
        write="/collections/kb/points?wait=true",
        pages=lambda server: {
            "/collections/kb": {
                "result": {
                    "config": {"params": {"vectors": {"size": 64, "distance": "Cosine"}}},
                    "payload_schema": {},
                }
            },
            "/collections/kb/points/count": {"result": {"count": 0}},
            "/collections/kb/points?wait=true": {"result": {}},
            "/collections/kb/index?wait=true": {"result": {}},
            "/collections/kb/points/delete?wait=true": {"result": {}},
        },
        error=lambda words: {"status": {"error": words}, "time": 0.1},
    ),
    "chroma": Wire(
        first=f"{CHROMA}?limit=200&offset=0",
        write=f"{CHROMA}/{CHROMA_ID}/upsert",
        pages=lambda server: {
            f"{CHROMA}?limit=200&offset=0": [
                {"id": CHROMA_ID, "name": "kb", "dimension": 64, "configuration_json": {"hnsw": {"space": "cosine"}}}
            ],
            f"{CHROMA}/{CHROMA_ID}/count": 0,
            f"{CHROMA}/{CHROMA_ID}/get": {"ids": [], "metadatas": []},
            f"{CHROMA}/{CHROMA_ID}/upsert": {},
            f"{CHROMA}/{CHROMA_ID}/delete": {"deleted": 0},
        },
        error=lambda words: {"error": "InvalidArgumentError", "message": words},
    ),
}
