"""An item of `vectors`, as the API takes it -> a document: checked, with clean metadata, cut into chunks."""

import hashlib
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.core.exceptions import SuspiciousOperation
from django.utils.html import strip_tags

from puffer.api import ApiError
from puffer.text import storable
from vectorstores.base import Floats, Metadata, Value, Vector
from vectorstores.ingestion.chunking import Chunk

DEFAULT_SOURCE = "text_entry_global_form"  # the original's, for texts that name no source
MAX_ID = 80  # characters
INTEGER_BITS = 63  # and a sign: larger ones neither JSON nor the stores agree on
# What ingestion itself writes, and the text, which has a place of its own.
RESERVED = {
    "original_content",
    "vector_id",
    "parent_vector_id",
    "chunk_index",
    "total_chunks",
    "char_start",
    "char_end",
}

NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_.:-]")
NOT_IN_KEYS = re.compile(r"[^a-z0-9_-]")
LINE_BREAKS = re.compile(r"[\r\n]+")


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A text on its way into a collection. `values` are its chunks' embeddings, if it brings them along."""

    parent_id: str
    chunks: Sequence[Chunk]
    metadata: Metadata
    source: str = ""  # where it was read: a file or URL; "" for the API
    origin: str = ""  # what an import was told to read
    content_hash: str = ""
    has_own_id: bool = True  # else the id was made up, so nothing can be stored under it yet
    values: Sequence[Floats] = ()

    @property
    def title(self) -> str:
        return str(self.metadata.get("title", ""))

    def vector_id(self, index: int) -> str:
        """The parent's own id where there is but one chunk."""
        return self.parent_id if len(self.chunks) == 1 else f"{self.parent_id}_chunk_{index}"

    def vector_metadata(self, index: int) -> Metadata:
        chunk = self.chunks[index]
        own: Metadata = {
            **self.metadata,
            **chunk.metadata,
            "vector_id": self.vector_id(index),
            "parent_vector_id": self.parent_id,
            "chunk_index": index,
            "total_chunks": len(self.chunks),
            "char_start": chunk.start,
            "char_end": chunk.end,
        }
        return own | {"headings": chunk.headings} if chunk.headings else own

    def text_to_embed(self, index: int) -> str:
        """The chunk under its document's title and its headings, for they say what it is about."""
        chunk = self.chunks[index]
        above = [line for line in (self.title, chunk.headings) if line and not chunk.text.startswith(line)]
        return "\n".join([*above, chunk.text])


def document_from(
    item: Mapping[str, Any],
    *,
    chunks: Sequence[Chunk],
    source: str = "",
    origin: str = "",
    hashed_with: Sequence[Any] = (),
) -> NewDocument:
    """`item` has the keys of the API: content, id, metadata, uri; `chunks` are the pieces of its content.

    `hashed_with` goes into the content's hash: whatever, once changed, makes it necessary to store the text anew.
    """
    given = item.get("metadata") or {}
    parent_id = first_id(given.get("parent_vector_id"), item.get("id"), given.get("id"))
    metadata = clean_metadata(given)
    if item.get("uri"):
        metadata["uri"] = without_markup(item["uri"])
    metadata["source"] = clean_key(str(metadata.get("source", ""))) or DEFAULT_SOURCE
    return NewDocument(
        parent_id=parent_id or f"text_{uuid.uuid4()}",
        chunks=chunks,
        metadata=metadata,
        source=source,
        origin=origin,
        content_hash=hash_of([item["content"], metadata, *hashed_with]),
        has_own_id=bool(parent_id),
    )


def document_of_chunks(
    vectors: Sequence[Vector],
    *,
    with_values: bool,
    source: str = "",
    origin: str = "",
    hashed_with: Sequence[Any] = (),
) -> NewDocument:
    """The document that stored chunks are of, in their order; the ids of its chunks become those that we give."""
    own = [clean_metadata(vector.metadata) for vector in vectors]
    headings = [str(metadata.pop("headings", "")) for metadata in own]
    common = {key: value for key, value in own[0].items() if all(other.get(key) == value for other in own)}
    common["source"] = clean_key(str(common.get("source", ""))) or DEFAULT_SOURCE
    chunks = [
        Chunk(
            text=storable(vector.text),
            start=number(vector.metadata.get("char_start"), 0),
            end=number(vector.metadata.get("char_end"), len(vector.text)),
            headings=above,
            metadata={key: value for key, value in metadata.items() if key not in common},
        )
        for vector, metadata, above in zip(vectors, own, headings, strict=True)
    ]
    values = [vector.values for vector in vectors] if with_values else []
    bytes_of_values = hashlib.sha256(b"".join(array.tobytes() for array in values)).hexdigest()
    told = [[chunk.text, chunk.start, chunk.end, chunk.headings, chunk.metadata] for chunk in chunks]
    return NewDocument(
        parent_id=first_id(vectors[0].parent_id, vectors[0].id) or f"text_{uuid.uuid4()}",
        chunks=chunks,
        metadata=common,
        source=source,
        origin=origin,
        content_hash=hash_of([told, common, bytes_of_values, *hashed_with]),
        values=values,
    )


def hash_of(content: Sequence[Any]) -> str:
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def first_id(*candidates: Any) -> str:
    """The first that leaves something when reduced to what the stores take as an id; "" if none does."""
    for candidate in candidates:
        if isinstance(candidate, str | int | float) and not isinstance(candidate, bool):
            cleaned = NOT_IN_IDS.sub("_", str(candidate)).strip("_.:-")[:MAX_ID]
            if cleaned:
                return cleaned
    return ""


def clean_key(key: str) -> str:
    return NOT_IN_KEYS.sub("", key.lower())


def clean_metadata(given: Mapping[str, Any]) -> Metadata:
    """Scalars and lists of strings, under clean keys. Objects, other lists and nulls are dropped."""
    metadata: Metadata = {}
    for name, value in given.items():
        key = clean_key(name)
        if key and key not in RESERVED and (cleaned := clean_value(value)) is not None:
            metadata[key] = cleaned
    return metadata


def clean_value(value: Any) -> Value | None:
    """None for what no store keeps."""
    if isinstance(value, str):
        return without_markup(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= INTEGER_BITS else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list) and value and all(isinstance(entry, str) for entry in value):
        return [without_markup(entry) for entry in value]
    return None


def without_markup(text: str) -> str:
    """Return the text without HTML tags and line breaks, trimmed."""
    try:
        text = strip_tags(storable(text))
    except SuspiciousOperation:
        raise ApiError(
            "A metadata value holds too many unclosed HTML tags.", status=400, code="rest_invalid_param"
        ) from None
    return LINE_BREAKS.sub(" ", text).strip()
