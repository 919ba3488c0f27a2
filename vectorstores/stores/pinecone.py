"""Pinecone, indexes of dense vectors. Source: https://docs.pinecone.io/reference/api/2025-04"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import orjson
from django.core.exceptions import ValidationError

from puffer.api import ApiError
from puffer.net import RestSession, is_loopback, validate_base_url
from vectorstores.base import CollectionInfo, Match, Metric, Query, Vector
from vectorstores.errors import CollectionNotFound
from vectorstores.stores.rest import Item, RestStore, by_total_chunks, cosine, in_batches, in_range

API_VERSION = "2025-04"
METRICS = {"cosine": Metric.COSINE, "dotproduct": Metric.DOT, "euclidean": Metric.EUCLIDEAN}
KNOWN_FOR = 3600.0  # seconds before an index's host is looked up again
READY_SECONDS = 60.0  # to wait for a new index to become ready
PAGE = 100
# Pinecone allows 2 MB per request without saying in which format. We count JSON, which is larger than the stored form.
MAX_UPSERT_BYTES = 2_000_000
NUMBER_BYTES = 14  # a float32 in JSON
MAX_QUERY_STRING = 4000  # characters; well below the limit of gateways


@dataclass(frozen=True, slots=True)
class Index:
    """An index as Pinecone described it at `read_at`, with a session to its host."""

    session: RestSession
    dimension: int
    metric: Metric
    read_at: float


class Pinecone(RestStore):
    slug = "pinecone"
    label = "Pinecone"
    default_base_url = "https://api.pinecone.io"
    missing_code = "missing_api_key_pinecone"
    missing_text = "Pinecone API Key is required."
    needs_api_key = True
    has_namespaces = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.known: dict[str, Index] = {}

    def headers(self) -> Mapping[str, str]:
        return {"Api-Key": self.settings.api_key, "X-Pinecone-API-Version": API_VERSION}

    def error_text(self, body: Any) -> Any:
        error = body.get("error", body)
        return error["message"] if isinstance(error, dict) else error

    # Indexes

    def list_targets(self) -> list[str]:
        found = self.ask("GET", "/indexes")
        with self.reading():
            return sorted(str(index["name"]) for index in found["indexes"])

    def read_index(self, target: str) -> Mapping[str, Any]:
        answer = self.call("GET", f"/indexes/{quote(target, safe='')}")
        if answer.status == 404:
            self.known.pop(target, None)
            raise CollectionNotFound(self.label, target)
        if answer.status >= 300:
            raise self.failure(answer)
        return self.read(answer)

    def find(self, target: str) -> Index:
        index = self.known.get(target)
        if index is None or time.monotonic() - index.read_at > KNOWN_FOR:
            description = self.read_index(target)
            with self.reading():
                index = self.known[target] = Index(
                    self.session_for(self.host_url(str(description["host"]))),
                    int(description["dimension"]),
                    METRICS.get(description.get("metric", ""), Metric.COSINE),
                    time.monotonic(),
                )
        return index

    def host_url(self, host: str) -> str:
        """Return the host's URL: https, unless control plane and host are both on this machine, as an emulator is."""
        near = is_loopback(urlsplit(self.settings.base_url).hostname or "")
        url = host if "://" in host else f"{'http' if near and is_local(host) else 'https'}://{host}"
        try:
            validate_base_url(url)
        except ValidationError as error:
            raise ApiError(
                f"Pinecone returned a host that is not allowed. {error.message}", status=502, code="pinecone_api_error"
            ) from None
        return url

    def ask_index(self, target: str, method: str, path: str, body: Any = None, **options: Any) -> Any:
        was_known = target in self.known
        try:
            answer = self.call(method, path, body, session=self.find(target).session, **options)
        except ApiError as error:
            self.known.pop(target, None)
            if was_known and error.status == 502:  # the index may have moved or been deleted
                return self.ask_index(target, method, path, body, **options)
            raise
        if answer.status == 404 and path == "/vectors/delete":
            return {}  # the namespace is empty and so does not exist
        if answer.status >= 300:
            raise self.failure(answer)
        return self.read(answer)

    def describe(self, target: str) -> CollectionInfo:
        self.known.pop(target, None)
        index = self.find(target)
        stats = self.ask_index(target, "POST", "/describe_index_stats", {})
        with self.reading():
            return CollectionInfo(target, index.dimension, index.metric, int(stats.get("totalVectorCount", 0)))

    def create(self, target: str, dimension: int) -> None:
        if target in self.list_targets():
            return
        body = {
            "name": target,
            "dimension": dimension,
            "metric": "cosine",
            "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}},
        }
        self.ask("POST", "/indexes", body, idempotent=False)
        deadline = time.monotonic() + READY_SECONDS
        while not (self.read_index(target).get("status") or {}).get("ready"):
            if time.monotonic() > deadline:
                raise ApiError(
                    "Pinecone created the index, but it is not ready yet. Try again in a minute.",
                    status=504,
                    code="pinecone_api_error",
                )
            time.sleep(1)

    # Vectors

    def upsert(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        for batch in in_batches(vectors):
            records = [
                {
                    "id": vector.id,
                    "values": vector.values,
                    "metadata": {**vector.metadata, "original_content": vector.text},
                }
                for vector in batch
            ]
            for part in by_size(records, bytes_of, MAX_UPSERT_BYTES):
                self.ask_index(target, "POST", "/vectors/upsert", {"vectors": part, **in_namespace(namespace)})

    def delete_leftovers(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        for total, parents in by_total_chunks(vectors).items():
            for ids in in_batches(parents):
                self.delete(target, {"$and": [of_documents(ids), {"total_chunks": {"$ne": total}}]}, namespace)

    def delete_parents(self, target: str, parent_ids: Sequence[str], namespace: str = "") -> None:
        for ids in in_batches(parent_ids):
            self.delete(target, of_documents(ids), namespace)

    def delete(self, target: str, condition: Mapping[str, Any], namespace: str) -> None:
        self.ask_index(target, "POST", "/vectors/delete", {"filter": condition, **in_namespace(namespace)})

    def query(self, target: str, query: Query, namespace: str = "") -> list[Match]:
        metric = self.find(target).metric
        body = {
            "vector": query.values,
            "topK": query.top_k,
            "includeMetadata": True,
            "includeValues": metric is not Metric.COSINE,
            **in_namespace(namespace),
        }
        if query.filter:
            body["filter"] = {"$and": [condition(key, value) for key, value in query.filter.items()]}
        found = self.ask_index(target, "POST", "/query", body)
        with self.reading():
            matches = [match_of(record, query, metric) for record in found["matches"]]
        return sorted(filter(None, matches), key=lambda match: -match.score)

    def scan(self, target: str, namespace: str = "", parent_id: str = "") -> Iterator[Vector]:
        # The ids of a document's vectors start with its id, but so may those of other documents.
        prefix = {"prefix": parent_id} if parent_id else {}
        token = ""
        while True:
            place = {**prefix, **in_namespace(namespace), **({"paginationToken": token} if token else {})}
            params: dict[str, Any] = {"limit": PAGE, **place}
            page = self.ask_index(target, "GET", "/vectors/list", params=params)
            with self.reading():
                ids = [str(record["id"]) for record in page.get("vectors") or []]
                before, token = token, (page.get("pagination") or {}).get("next", "")
            for part in by_size(ids, lambda vector_id: len(quote(vector_id)) + len("&ids="), MAX_QUERY_STRING):
                params = {"ids": part, **in_namespace(namespace)}
                fetched = self.ask_index(target, "GET", "/vectors/fetch", params=params)
                with self.reading():
                    vectors = [vector_of(record) for record in fetched["vectors"].values()]
                yield from (vector for vector in vectors if parent_id in ("", vector.parent_id))
            if not token or token == before:  # a server that repeats its token would never end
                return


def by_size(items: Iterable[Item], size_of: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """Split the items, in order, into parts of at most `most` in size; a larger item makes a part of its own."""
    part: list[Item] = []
    size = 0
    for item in items:
        if part and size + size_of(item) > most:
            yield part
            part, size = [], 0
        part.append(item)
        size += size_of(item)
    if part:
        yield part


def bytes_of(record: Mapping[str, Any]) -> int:
    return NUMBER_BYTES * len(record["values"]) + len(record["id"]) + len(orjson.dumps(record["metadata"]))


def is_local(host: str) -> bool:
    return is_loopback(urlsplit(f"//{host}").hostname or "")


def in_namespace(namespace: str) -> dict[str, str]:
    return {"namespace": namespace} if namespace else {}


def condition(key: str, value: Any) -> dict[str, Any]:
    many = isinstance(value, Sequence) and not isinstance(value, str)
    return {key: {"$in": list(value)} if many else {"$eq": value}}


def of_documents(ids: Sequence[str]) -> dict[str, Any]:
    return {"$or": [condition("parent_vector_id", ids), condition("vector_id", ids)]}


def read_record(record: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    # Pinecone stores all numbers as floats.
    metadata: dict[str, Any] = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in (record.get("metadata") or {}).items()
    }
    text = metadata.pop("original_content", "")
    return str(record["id"]), text if isinstance(text, str) else "", metadata


def match_of(record: Mapping[str, Any], query: Query, metric: Metric) -> Match | None:
    found_id, text, metadata = read_record(record)
    score = in_range(record["score"]) if metric is Metric.COSINE else cosine(query.values, record["values"])
    return None if score is None else Match(found_id, score, text, metadata)


def vector_of(record: Mapping[str, Any]) -> Vector:
    found_id, text, metadata = read_record(record)
    return Vector(found_id, np.asarray(record["values"], np.float32), text, {"parent_vector_id": found_id, **metadata})
