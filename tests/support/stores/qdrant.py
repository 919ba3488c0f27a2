"""Qdrant's REST API on top of its client's in-memory engine for tests, QdrantClient(":memory:").

Source: https://api.qdrant.tech/api-reference. As on Qdrant Cloud, deleting or scrolling by a field requires an index
on the field.
"""

import time
from typing import Any
from urllib.parse import unquote

import pydantic
from qdrant_client import QdrantClient, models

from tests.support.stores.double import Double, Refused
from tests.support.upstream import Sent


class QdrantOnLoopback(Double):
    def __init__(self, api_key: str = "") -> None:
        super().__init__(api_key)
        self.engine = QdrantClient(":memory:", force_disable_check_same_thread=True)
        self.indexes: dict[str, dict[str, str]] = {}  # collection -> field -> kind

    def check_key(self, sent: Sent) -> None:
        if self.api_key and not sent.headers["api-key"]:
            raise Refused(401, b"Must provide an API key or an Authorization bearer token")
        if self.api_key and sent.headers["api-key"] != self.api_key:
            raise Refused(401, b"Invalid API key or JWT")

    def answer(self, sent: Sent) -> tuple[int, Any]:
        try:
            result = self.result(sent)
        except pydantic.ValidationError as error:
            raise refused(400, f"Format error in JSON body: {error}") from None
        except ValueError as error:  # raised by the engine
            raise refused(400, str(error)) from None
        return 200, {"result": result, "status": "ok", "time": 0.001}

    def result(self, sent: Sent) -> Any:
        body = sent.json if sent.body else {}
        match [sent.method, *map(unquote, sent.path.strip("/").split("/"))]:
            case ["GET", "collections"]:
                return plain(self.engine.get_collections())
            case ["PUT", "collections", name]:
                if self.engine.collection_exists(name):
                    raise refused(409, f"Wrong input: Collection `{name}` already exists!")
                request = models.CreateCollection.model_validate(body)
                self.indexes[name] = {}
                return self.engine.create_collection(name, request.vectors)
            case ["DELETE", "collections", name]:
                return self.engine.delete_collection(name)
            case ["GET", "collections", name, "exists"]:
                return {"exists": self.engine.collection_exists(name)}
            case [method, "collections", name, *path]:
                if not self.engine.collection_exists(name):
                    raise refused(404, f"Not found: Collection `{name}` doesn't exist!")
                return self.in_collection(name, method, "/".join(path), body)
        raise Refused(404, b"")

    def in_collection(self, name: str, method: str, path: str, body: Any) -> Any:
        match method, path:
            case "GET", "":
                schema = {field: {"data_type": kind, "points": 0} for field, kind in self.indexes[name].items()}
                return plain(self.engine.get_collection(name)) | {"payload_schema": schema}
            case "PUT", "index":
                request = models.CreateFieldIndex.model_validate(body)
                self.indexes[name][request.field_name] = str(request.field_schema.value)
                return done()
            case "PUT", "points":
                points = models.PointsList.model_validate(body).points
                self.engine.upsert(name, points)
                return done()
            case "POST", "points/delete":
                if "filter" in body:
                    condition = models.FilterSelector.model_validate(body)
                    self.check_indexes(name, condition.filter)
                    self.engine.delete(name, condition)
                else:
                    self.engine.delete(name, models.PointIdsList.model_validate(body))
                return done()
            case "POST", "points/count":
                request = models.CountRequest.model_validate(body)
                return plain(self.engine.count(name, request.filter))
            case "POST", "points/query":
                request = models.QueryRequest.model_validate(body)
                found = self.engine.query_points(
                    name,
                    request.query,
                    query_filter=request.filter,
                    limit=request.limit or 10,
                    with_payload=request.with_payload or False,
                    with_vectors=request.with_vector or False,
                )
                return plain(found)
            case "POST", "points/scroll":
                request = models.ScrollRequest.model_validate(body)
                if request.filter:
                    self.check_indexes(name, request.filter)
                points, after = self.engine.scroll(
                    name,
                    request.filter,
                    limit=request.limit or 10,
                    offset=request.offset,
                    with_payload=request.with_payload is not False,
                    with_vectors=request.with_vector or False,
                )
                return {"points": [plain(point) for point in points], "next_page_offset": after}
            case "POST", "points":
                request = models.PointRequest.model_validate(body)
                found = self.engine.retrieve(name, request.ids, True, request.with_vector or False)
                return [plain(point) for point in found]
        raise Refused(404, b"")

    def check_indexes(self, name: str, condition: models.Filter) -> None:
        for part in [*(condition.must or []), *(condition.should or []), *(condition.must_not or [])]:
            if isinstance(part, models.FieldCondition) and part.key not in self.indexes[name]:
                raise refused(400, f'Bad request: Index required but not found for "{part.key}"')


def plain(found: pydantic.BaseModel) -> Any:
    return found.model_dump(mode="json")


def done() -> dict[str, Any]:
    return {"operation_id": 0, "status": "completed"}


def refused(status: int, error: str) -> Refused:
    return Refused(status, {"status": {"error": error}, "time": time.process_time()})
