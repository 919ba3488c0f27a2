"""Encode and decode the answers of the sandbox as JSON. A pickle could run code of a crafted file in the worker."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from puffer.api import ApiError
from vectorstores.extraction import Unreadable
from vectorstores.ingestion.chunking import Chunk
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.embedding import as_floats
from vectorstores.ingestion.rows import Note, Refused
from vectorstores.sources.links import Link

Answer = NewDocument | Refused | Note | Link


def to_json(found: Sequence[Answer]) -> bytes:
    return json.dumps(
        [{type(result).__name__: asdict(result)} for result in found], default=lambda floats: floats.tolist()
    ).encode()


def from_json(text: bytes) -> list[Answer]:
    """Return the documents, refusals, notes and links. Raise Unreadable for anything else."""
    try:
        return [result_of(result) for result in json.loads(text)]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, ApiError):
        raise Unreadable("The sandbox sent an answer that cannot be read.") from None


def result_of(result: dict[str, Any]) -> Answer:
    for kind in (Refused, Note, Link):
        if kind.__name__ in result:
            return restored(kind, result[kind.__name__])
    values = result["NewDocument"]
    chunks = [restored(Chunk, chunk) for chunk in values["chunks"]]
    return restored(
        NewDocument, values | {"chunks": chunks, "values": [as_floats(vector) for vector in values["values"]]}
    )


def restored(kind: type[Any], values: dict[str, Any]) -> Any:
    """Return the dataclass with the values. Raise TypeError for a missing, unknown or wrong one."""
    for field in fields(kind):
        value = values[field.name]
        if field.type in (str, int, bool) and type(value) is not field.type:
            raise TypeError(field.name)
        if field.name == "metadata" and not all(is_value(entry) for entry in value.values()):
            raise TypeError(field.name)
    return kind(**values)


def is_value(entry: Any) -> bool:
    return isinstance(entry, str | int | float) or (
        isinstance(entry, list) and all(isinstance(item, str) for item in entry)
    )
