"""Pinecone in memory, for indexes of dense vectors: a server for the control plane, and one for each index.

Source: https://docs.pinecone.io/reference/api (2025-04; descriptions of indexes also have the fields of 2026-07, which
the official client reads), limits: https://docs.pinecone.io/reference/api/database-limits
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import unquote

import numpy as np

from tests.support.stores.double import Double, Refused
from tests.support.upstream import Behavior, Sent, running, sending

MAX_UPSERT_BYTES = 2 * 1024 * 1024
MAX_UPSERT = 1000  # records
MAX_METADATA_BYTES = 40 * 1024
MAX_QUERY_STRING = 8000  # characters of a request line; a gateway enforces it
MAX_LIST = 100


class Plane(Double):
    def check_key(self, sent: Sent) -> None:
        if sent.headers["Api-Key"] != self.api_key:
            raise Refused(401, {"error": {"code": "UNAUTHENTICATED", "message": "Invalid API key."}, "status": 401})


class PineconeOnLoopback(Plane):
    """The control plane. Closing it also closes the servers of its indexes."""

    def __init__(self, api_key: str) -> None:
        super().__init__(api_key)
        self.indexes: dict[str, Index] = {}
        self.polls_until_ready = 0  # of a new index
        self.running = ExitStack()

    def server_close(self) -> None:
        self.running.close()
        super().server_close()

    def answer(self, sent: Sent) -> tuple[int, Any]:
        match [sent.method, *map(unquote, sent.path.strip("/").split("/"))]:
            case ["GET", "indexes"]:
                return 200, {"indexes": [self.description(name) for name in self.indexes]}
            case ["POST", "indexes"]:
                return 201, self.create(sent.json)
            case ["GET", "indexes", name]:
                return 200, self.description(self.known(name))
            case ["DELETE", "indexes", name]:
                index = self.indexes.pop(self.known(name))
                index.is_deleted = True
                index.server_close()
                return 202, b""
        raise control_error(404, "NOT_FOUND", "Not found")

    def create(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        name = wanted["name"]
        if not re.fullmatch("[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?", name):
            raise control_error(400, "INVALID_ARGUMENT", "Name must consist of lower case alphanumeric characters or -")
        if name in self.indexes:
            raise control_error(409, "ALREADY_EXISTS", "Resource already exists")
        if "schema" in wanted:  # 2026-07
            wanted = {**wanted, **wanted["schema"]["fields"]["_values"]}
        index = Index(self.api_key, wanted["dimension"], wanted.get("metric") or "cosine", self.polls_until_ready)
        self.indexes[name] = index
        self.running.enter_context(running(index))
        return self.description(name)

    def known(self, name: str) -> str:
        if name not in self.indexes:
            raise control_error(404, "NOT_FOUND", f"Resource {name} not found")
        return name

    def description(self, name: str) -> dict[str, Any]:
        index = self.indexes[name]
        index.polls_until_ready -= 1
        ready = index.polls_until_ready < 0
        field = {"type": "dense_vector", "dimension": index.dimension, "metric": index.metric}
        return {
            "name": name,
            "dimension": index.dimension,
            "metric": index.metric,
            "vector_type": "dense",
            "host": index.url.removeprefix("http://"),
            "deletion_protection": "disabled",
            "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "schema": {"fields": {"_values": field}},
            "status": {"ready": ready, "state": "Ready" if ready else "Initializing"},
        }


class Index(Plane):
    """The data plane of one index."""

    def __init__(self, api_key: str, dimension: int, metric: str, polls_until_ready: int) -> None:
        super().__init__(api_key)
        self.dimension, self.metric = dimension, metric
        self.polls_until_ready = polls_until_ready
        self.namespaces: dict[str, dict[str, Any]] = {}
        self.is_deleted = False

    def behaviour_for(self, path: str) -> Behavior:
        return sending(b"") if self.is_deleted else super().behaviour_for(path)

    def answer(self, sent: Sent) -> tuple[int, Any]:
        if len(sent.target) > MAX_QUERY_STRING:
            raise Refused(414, b"URI Too Long")
        if sent.method == "GET":
            body: dict[str, Any] = {name: values[0] for name, values in sent.query.items()}
            body["ids"] = sent.query.get("ids", [])
        else:
            body = sent.json
        namespace = body.get("namespace") or ""
        namespace = "" if namespace == "__default__" else namespace
        match sent.method, sent.path:
            case "POST", "/vectors/upsert":
                return 200, self.upsert(body["vectors"], namespace, len(sent.body))
            case "POST", "/vectors/delete":
                return 200, self.delete(body, namespace)
            case "POST", "/query":
                return 200, self.query(body, namespace)
            case "GET", "/vectors/fetch":
                records = self.namespaces.get(namespace, {})
                found = {id_: records[id_] for id_ in body["ids"] if id_ in records}
                return 200, {"vectors": found, "namespace": namespace, "usage": {"readUnits": 1}}
            case "GET", "/vectors/list":
                return 200, self.page_of_ids(body, namespace)
            case "POST", "/describe_index_stats":
                counts = {name: {"vectorCount": len(records)} for name, records in self.namespaces.items()}
                total = sum(len(records) for records in self.namespaces.values())
                return 200, {
                    "namespaces": counts, "dimension": self.dimension, "indexFullness": 0.0,
                    "totalVectorCount": total, "metric": self.metric, "vectorType": "dense",
                }  # fmt: skip
        raise data_error(404, 5, "Not Found")

    def upsert(self, records: list[dict[str, Any]], namespace: str, size: int) -> dict[str, Any]:
        if len(records) > MAX_UPSERT:
            raise data_error(400, 3, f"Upsert of {len(records)} records, which is more than {MAX_UPSERT}")
        if size > MAX_UPSERT_BYTES:
            raise data_error(400, 11, f"message length too large: {size} bytes, the limit is {MAX_UPSERT_BYTES} bytes")
        for record in records:
            self.check_record(record)
        kept = self.namespaces.setdefault(namespace, {})
        for record in records:
            metadata = {name: stored(value) for name, value in (record.get("metadata") or {}).items()}
            values = np.asarray(record["values"], np.float32).tolist()
            kept[record["id"]] = {"id": record["id"], "values": values, "metadata": metadata}
        return {"upsertedCount": len(records)}

    def check_record(self, record: Mapping[str, Any]) -> None:
        vector_id, values = record["id"], record["values"]
        if not vector_id.isascii():
            raise data_error(400, 3, f"Vector ID must be ASCII, but got '{vector_id}'")
        if not 0 < len(vector_id) <= 512:
            raise data_error(400, 3, "Vector ID must be 1 to 512 characters long")
        self.check_dimension(values, "Vector")
        if not any(values):
            raise data_error(400, 3, "Dense vectors must contain at least one non-zero value.")
        for name, value in (record.get("metadata") or {}).items():
            is_list = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
            if not (is_list or isinstance(value, str | int | float)):
                raise data_error(
                    400,
                    3,
                    f"Metadata value must be a string, number, boolean or list of strings, not that of '{name}'",
                )
        if (size := bytes_of(record.get("metadata"))) > MAX_METADATA_BYTES:
            raise data_error(
                400,
                3,
                f"Metadata size is {size} bytes, which exceeds the limit of {MAX_METADATA_BYTES} bytes per vector",
            )

    def check_dimension(self, values: list[float], what: str) -> None:
        if len(values) != self.dimension:
            raise data_error(
                400, 3, f"{what} dimension {len(values)} does not match the dimension of the index {self.dimension}"
            )

    def delete(self, body: Mapping[str, Any], namespace: str) -> dict[str, Any]:
        if namespace not in self.namespaces:
            raise data_error(404, 5, "Namespace not found")
        records = self.namespaces[namespace]
        if body.get("deleteAll"):
            del self.namespaces[namespace]
        elif body.get("filter"):
            for vector_id in [id_ for id_, record in records.items() if matches(body["filter"], record["metadata"])]:
                del records[vector_id]
        elif body.get("ids"):
            for vector_id in body["ids"]:
                records.pop(vector_id, None)
        else:
            raise data_error(400, 3, "Must provide ids, filter or deleteAll")
        return {}

    def query(self, body: Mapping[str, Any], namespace: str) -> dict[str, Any]:
        if not 1 <= body["topK"] <= 10_000:
            raise data_error(400, 3, "topK must be between 1 and 10000")
        self.check_dimension(body["vector"], "Query vector")
        wanted = np.asarray(body["vector"], np.float64)
        found = []
        for record in self.namespaces.get(namespace, {}).values():
            if matches(body.get("filter") or {}, record["metadata"]):
                match = {"id": record["id"], "score": self.score(wanted, np.asarray(record["values"])), "values": []}
                if body.get("includeValues"):
                    match["values"] = record["values"]
                if body.get("includeMetadata"):
                    match["metadata"] = record["metadata"]
                found.append(match)
        found.sort(key=lambda match: match["score"], reverse=self.metric != "euclidean")
        return {"matches": found[: body["topK"]], "namespace": namespace, "usage": {"readUnits": 5}}

    def score(self, a: Any, b: Any) -> float:
        if self.metric == "euclidean":  # squared; the smallest is the nearest
            return float(np.sum((a - b) ** 2))
        product = float(a @ b)
        return product if self.metric == "dotproduct" else product / float(np.linalg.norm(a) * np.linalg.norm(b) or 1.0)

    def page_of_ids(self, body: Mapping[str, Any], namespace: str) -> dict[str, Any]:
        limit = int(body.get("limit", MAX_LIST))
        if not 1 <= limit <= MAX_LIST:
            raise data_error(400, 3, "limit must be between 1 and 100")
        after = body.get("paginationToken", "")
        prefix = body.get("prefix", "")
        ids = sorted(id_ for id_ in self.namespaces.get(namespace, {}) if id_ > after and id_.startswith(prefix))
        more = {"pagination": {"next": ids[limit - 1]}} if len(ids) > limit else {}
        return {
            "vectors": [{"id": id_} for id_ in ids[:limit]],
            "namespace": namespace,
            "usage": {"readUnits": 1},
            **more,
        }


def stored(value: Any) -> Any:
    """Return a metadata value as Pinecone stores it: numbers become 64-bit floats."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def bytes_of(metadata: Any) -> int:
    return len(json.dumps(metadata or {}, ensure_ascii=False).encode())


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: any(same(entry, wanted) for entry in entries(value)),
    "$ne": lambda value, wanted: not OPERATORS["$eq"](value, wanted),
    "$in": lambda value, wanted: any(OPERATORS["$eq"](value, one) for one in wanted),
    "$nin": lambda value, wanted: not OPERATORS["$in"](value, wanted),
    "$gt": lambda value, wanted: is_number(value) and value > wanted,
    "$gte": lambda value, wanted: is_number(value) and value >= wanted,
    "$lt": lambda value, wanted: is_number(value) and value < wanted,
    "$lte": lambda value, wanted: is_number(value) and value <= wanted,
    "$exists": lambda value, wanted: (value is not None) == wanted,
}


def matches(condition: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    return all(holds(name, wanted, metadata) for name, wanted in condition.items())


def holds(name: str, wanted: Any, metadata: Mapping[str, Any]) -> bool:
    if name == "$and":
        return all(matches(part, metadata) for part in wanted)
    if name == "$or":
        return any(matches(part, metadata) for part in wanted)
    operators = wanted if isinstance(wanted, dict) else {"$eq": wanted}
    if name.startswith("$") or not OPERATORS.keys() >= operators.keys():
        raise data_error(400, 3, f"Invalid operator in the filter: {name} {sorted(operators)}")
    return all(OPERATORS[operator](metadata.get(name), value) for operator, value in operators.items())


def entries(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else [value]


def same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def control_error(status: int, code: str, message: str) -> Refused:
    return Refused(status, {"error": {"code": code, "message": message}, "status": status})


def data_error(status: int, code: int, message: str) -> Refused:
    return Refused(status, {"code": code, "message": message, "details": []})
