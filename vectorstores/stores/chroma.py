"""Chroma, API v2. Source: https://docs.trychroma.com/reference and /openapi.json of a server"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from vectorstores.base import CollectionInfo, Filter, Match, Metadata, Metric, Query, Vector
from vectorstores.errors import CollectionNotFound
from vectorstores.stores.rest import RestStore, by_total_chunks, cosine, in_batches, in_range

METRICS = {"cosine": Metric.COSINE, "ip": Metric.DOT, "l2": Metric.EUCLIDEAN}
PAGE = 200
KNOWN_FOR = 60.0  # seconds before a collection's id is looked up again


@dataclass(frozen=True, slots=True)
class Known:
    """A collection as Chroma described it at `read_at`."""

    id: str
    name: str
    dimension: int | None
    metric: Metric
    read_at: float


class Chroma(RestStore):
    slug = "chroma"
    label = "Chroma"
    missing_code = "missing_chroma_url"
    missing_text = "Chroma's URL is required."
    max_chunk_characters = 5000
    keeps_lists = False  # lists are stored as JSON

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.known: dict[str, Known] = {}  # by target, which is a name or an id

    def root(self) -> str:
        server = self.settings.base_url.rstrip("/").removesuffix("/api/v2")
        tenant = quote(self.settings.tenant or "default_tenant", safe="")
        database = quote(self.settings.database or "default_database", safe="")
        return f"{server}/api/v2/tenants/{tenant}/databases/{database}"

    def headers(self) -> Mapping[str, str]:
        return {"x-chroma-token": self.settings.api_key} if self.settings.api_key else {}

    def error_text(self, body: Any) -> Any:
        return body.get("message") or body["error"]

    # Collections

    def collections(self) -> Iterator[Known]:
        offset = 0
        while True:
            page = self.ask("GET", "/collections", params={"limit": PAGE, "offset": offset})
            with self.reading():
                found = [read_collection(row) for row in page]
            yield from found
            if len(found) < PAGE:
                return
            offset += PAGE

    def find(self, target: str) -> Known:
        """Find a collection by its name or id. Raise CollectionNotFound."""
        known = self.known.get(target)
        if known is None or time.monotonic() - known.read_at > KNOWN_FOR:
            known = next((found for found in self.collections() if target in (found.name, found.id)), None)
            if known is None:
                self.known.pop(target, None)
                raise CollectionNotFound(self.label, target)
            self.known[target] = known
        return known

    def ask_collection(self, target: str, verb: str, body: Any = None, method: str = "POST") -> Any:
        answer = self.call(method, f"/collections/{self.find(target).id}/{verb}", body)
        if answer.status == 404:
            # The collection may have been deleted and created again, with another id.
            self.known.pop(target, None)
            answer = self.call(method, f"/collections/{self.find(target).id}/{verb}", body)
        if answer.status >= 300:
            raise self.failure(answer)
        return self.read(answer)

    def list_targets(self) -> list[str]:
        return sorted(collection.name for collection in self.collections())

    def describe(self, target: str) -> CollectionInfo:
        self.known.pop(target, None)  # the dimension is unknown until the first vector is stored
        known = self.find(target)
        count = self.ask_collection(target, "count", method="GET")
        with self.reading():
            return CollectionInfo(known.name, known.dimension, known.metric, int(count))

    def create(self, target: str, dimension: int) -> None:
        body = {"name": target, "configuration": {"hnsw": {"space": "cosine"}}, "get_or_create": True}
        self.ask("POST", "/collections", body, idempotent=False)

    # Vectors

    def upsert(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        for batch in in_batches(vectors):
            ids = [vector.id for vector in batch]
            old = self.keys_of(target, ids)
            columns: dict[str, Any] = {
                "ids": ids,
                "embeddings": [vector.values for vector in batch],
                "documents": [vector.text for vector in batch],
                # Chroma merges new metadata into the existing one; a null removes a key.
                "metadatas": [dict.fromkeys(old.get(vector.id, ())) | scalars(vector.metadata) for vector in batch],
            }
            uris = [vector.metadata.get("uri") for vector in batch]
            if any(uris):
                columns["uris"] = uris
            self.ask_collection(target, "upsert", columns)

    def keys_of(self, target: str, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the metadata keys of the vectors that exist, by id."""
        found = self.ask_collection(target, "get", {"ids": ids, "include": ["metadatas"]})
        with self.reading():
            pairs = zip(found["ids"], found["metadatas"], strict=True)
            return {vector_id: list(metadata or ()) for vector_id, metadata in pairs}

    def delete_leftovers(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        for total, parents in by_total_chunks(vectors).items():
            for ids in in_batches(parents):
                where = {"$and": [of_documents(ids), {"total_chunks": {"$ne": total}}]}
                self.ask_collection(target, "delete", {"where": where})

    def delete_parents(self, target: str, parent_ids: Sequence[str], namespace: str = "") -> None:
        for ids in in_batches(parent_ids):
            self.ask_collection(target, "delete", {"where": of_documents(ids)})

    def query(self, target: str, query: Query, namespace: str = "") -> list[Match]:
        metric = self.find(target).metric
        include = ["documents", "metadatas", "distances"]
        body: dict[str, Any] = {
            "query_embeddings": [query.values],
            "n_results": query.top_k,
            "include": include if metric is Metric.COSINE else [*include, "embeddings"],
        }
        if query.filter:
            body["where"] = where(query.filter)
        found = self.ask_collection(target, "query", body)
        matches: list[Match] = []
        with self.reading():
            for at, vector_id in enumerate(found["ids"][0]):
                if metric is Metric.COSINE:
                    score = in_range(1.0 - found["distances"][0][at])
                else:
                    score = cosine(query.values, found["embeddings"][0][at])
                if score is not None:
                    text, metadata = found["documents"][0][at] or "", found["metadatas"][0][at] or {}
                    matches.append(Match(str(vector_id), score, str(text), dict(metadata)))
        return sorted(matches, key=lambda match: -match.score)

    def scan(self, target: str, namespace: str = "", parent_id: str = "") -> Iterator[Vector]:
        body: dict[str, Any] = {"limit": PAGE, "include": ["documents", "metadatas", "embeddings"]}
        if parent_id:
            body["where"] = where({"parent_vector_id": parent_id})
        offset = 0
        while True:
            body["offset"] = offset
            page = self.ask_collection(target, "get", body)
            with self.reading():
                rows = list(zip(page["ids"], page["embeddings"], page["documents"], page["metadatas"], strict=True))
                vectors = [vector_of(*row) for row in rows]
            yield from vectors
            if len(rows) < PAGE:
                return
            offset += PAGE


def read_collection(row: Mapping[str, Any]) -> Known:
    configuration = row.get("configuration_json") or {}
    index = configuration.get("hnsw") or configuration.get("spann") or {}
    space = index.get("space") or (row.get("metadata") or {}).get("hnsw:space") or "l2"
    return Known(
        str(row["id"]), str(row["name"]), row.get("dimension"), METRICS.get(space, Metric.EUCLIDEAN), time.monotonic()
    )


def vector_of(vector_id: str, values: Any, text: Any, metadata: Mapping[str, Any] | None) -> Vector:
    kept = {"parent_vector_id": vector_id, **(metadata or {})}
    return Vector(str(vector_id), np.asarray(values, np.float32), str(text or ""), kept)


def scalars(metadata: Metadata) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for name, value in metadata.items()
    }


def of_documents(ids: Sequence[str]) -> dict[str, Any]:
    return {"$or": [{"parent_vector_id": {"$in": list(ids)}}, {"vector_id": {"$in": list(ids)}}]}


def where(wanted: Filter) -> dict[str, Any]:
    terms = [
        {key: {"$in": list(value)} if isinstance(value, Sequence) and not isinstance(value, str) else {"$eq": value}}
        for key, value in wanted.items()
    ]
    return terms[0] if len(terms) == 1 else {"$and": terms}
