"""Qdrant. Source: https://api.qdrant.tech/api-reference"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from puffer.api import ApiError
from vectorstores.base import CollectionInfo, Match, Metric, Query, Vector
from vectorstores.errors import CollectionNotFound
from vectorstores.stores.rest import RestStore, cosine, in_batches, in_range

METRICS = {"Cosine": Metric.COSINE, "Dot": Metric.DOT, "Euclid": Metric.EUCLIDEAN}
POINT_IDS = uuid.UUID("6b1f9c1e-5d0c-4f2e-9a44-0f3d1c6a7e21")  # the uuid5 namespace in which our ids become point ids
KEYWORDS = ("parent_vector_id", "vector_id")  # fields we filter by; Qdrant Cloud refuses to filter without an index
PAGE = 256


class Qdrant(RestStore):
    slug = "qdrant"
    label = "Qdrant"
    missing_code = "missing_qdrant_url"
    missing_text = "Qdrant's URL is required."

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.indexed: set[str] = set()
        self.metrics: dict[str, Metric] = {}

    def headers(self) -> Mapping[str, str]:
        return {"api-key": self.settings.api_key} if self.settings.api_key else {}

    def error_text(self, body: Any) -> Any:
        return body["status"]["error"]

    def ask_collection(self, method: str, target: str, path: str = "", body: Any = None, **options: Any) -> Any:
        answer = self.call(method, f"/collections/{quote(target, safe='')}{path}", body, **options)
        if answer.status == 404:
            self.indexed.discard(target)
            self.metrics.pop(target, None)
            raise CollectionNotFound(self.label, target)
        if answer.status >= 300:
            raise self.failure(answer)
        with self.reading():
            return self.read(answer)["result"]

    def list_targets(self) -> list[str]:
        found = self.ask("GET", "/collections")
        with self.reading():
            return sorted(str(collection["name"]) for collection in found["result"]["collections"])

    def describe(self, target: str) -> CollectionInfo:
        info = self.ask_collection("GET", target)
        count = self.ask_collection("POST", target, "/points/count", {"exact": True})
        with self.reading():
            vectors = info["config"]["params"].get("vectors") or {}
            if "size" not in vectors:
                raise ApiError(
                    f"The collection {target[:200]!r} has named or sparse vectors, which are not supported.",
                    status=400,
                    code="qdrant_api_error",
                )
            if not (info.get("payload_schema") or {}).keys() >= set(KEYWORDS):
                self.indexed.discard(target)  # another process may have created the collection again
            metric = self.metrics[target] = METRICS.get(vectors["distance"], Metric.EUCLIDEAN)
            return CollectionInfo(target, int(vectors["size"]), metric, int(count["count"]))

    def create(self, target: str, dimension: int) -> None:
        if target not in self.list_targets():
            config = {"vectors": {"size": dimension, "distance": "Cosine"}}
            self.ask_collection("PUT", target, "", config, idempotent=False)

    def make_indexes(self, target: str) -> None:
        """Create the indexes, once per process. Qdrant keeps an index that exists."""
        if target not in self.indexed:
            for name in KEYWORDS:
                body = {"field_name": name, "field_schema": "keyword"}
                self.ask_collection("PUT", target, "/index", body, params={"wait": "true"})
            self.indexed.add(target)

    def upsert(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        for batch in in_batches(vectors):
            points = [
                {
                    "id": point_id(vector.id),
                    "vector": vector.values,
                    "payload": {**vector.metadata, "vector_id": vector.id, "original_content": vector.text},
                }
                for vector in batch
            ]
            self.ask_collection("PUT", target, "/points", {"points": points}, params={"wait": "true"})

    def delete_leftovers(self, target: str, vectors: Sequence[Vector], namespace: str = "") -> None:
        parents = list({vector.parent_id for vector in vectors})
        kept = [{"has_id": [point_id(vector.id) for vector in vectors]}]
        self.delete(target, {"should": any_of(parents, KEYWORDS), "must_not": kept})

    def delete_parents(self, target: str, parent_ids: Sequence[str], namespace: str = "") -> None:
        self.delete(target, {"should": any_of(parent_ids, KEYWORDS)})

    def delete(self, target: str, wanted: Mapping[str, Any]) -> None:
        self.make_indexes(target)
        self.ask_collection("POST", target, "/points/delete", {"filter": wanted}, params={"wait": "true"})

    def query(self, target: str, query: Query, namespace: str = "") -> list[Match]:
        metric = self.metrics.get(target) or self.describe(target).metric
        wanted: dict[str, Any] = {
            "limit": query.top_k,
            "with_payload": True,
            "with_vector": metric is not Metric.COSINE,
        }
        if query.filter:
            wanted["filter"] = {"must": [condition(key, value) for key, value in query.filter.items()]}
        try:
            found = self.ask_collection("POST", target, "/points/query", {"query": query.values, **wanted})
        except CollectionNotFound:  # or the server is older than 1.10 and only has the older search
            found = self.ask_collection("POST", target, "/points/search", {"vector": query.values, **wanted})
        with self.reading():
            points = found["points"] if isinstance(found, dict) else found
            matches = [match_of(point, query, metric) for point in points]
        return sorted(filter(None, matches), key=lambda match: -match.score)

    def scan(self, target: str, namespace: str = "", parent_id: str = "") -> Iterator[Vector]:
        body: dict[str, Any] = {"limit": PAGE, "with_payload": True, "with_vector": True}
        if parent_id:
            self.make_indexes(target)
            body["filter"] = {"must": [condition("parent_vector_id", parent_id)]}
        offset = None
        while True:
            body["offset"] = offset
            page = self.ask_collection("POST", target, "/points/scroll", body)
            with self.reading():
                vectors = [vector_of(point) for point in page["points"]]
                offset = page.get("next_page_offset")
            yield from vectors
            if offset is None:
                return


def point_id(vector_id: str) -> str:
    """Return the id of a point: Qdrant accepts only integers and UUIDs."""
    return str(uuid.uuid5(POINT_IDS, vector_id))


def any_of(values: Sequence[str], keys: Sequence[str]) -> list[dict[str, Any]]:
    return [{"key": key, "match": {"any": list(values)}} for key in keys]


def condition(key: str, value: Any) -> dict[str, Any]:
    """Return a filter condition. A number becomes a range: a match accepts no float and does not find 5.0 for 5."""
    if isinstance(value, str | bool):
        return {"key": key, "match": {"value": value}}
    if isinstance(value, int | float):
        return {"key": key, "range": {"gte": value, "lte": value}}
    return {"should": [condition(key, one) for one in value]}


def read_payload(point: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return our id, the text and the metadata. A point written by other software may only have its point id."""
    payload = dict(point.get("payload") or {})
    text = payload.pop("original_content", "")
    return str(payload.get("vector_id") or point["id"]), text if isinstance(text, str) else "", payload


def match_of(point: Mapping[str, Any], query: Query, metric: Metric) -> Match | None:
    found_id, text, metadata = read_payload(point)
    score = in_range(point["score"]) if metric is Metric.COSINE else cosine(query.values, point["vector"])
    return None if score is None else Match(found_id, score, text, metadata)


def vector_of(point: Mapping[str, Any]) -> Vector:
    found_id, text, metadata = read_payload(point)
    metadata.setdefault("parent_vector_id", found_id)
    return Vector(found_id, np.asarray(point["vector"], np.float32), text, metadata)
