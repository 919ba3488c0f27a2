"""A document on its way into a collection: an item of the API, checked, with clean metadata, cut into chunks."""

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
from vectorstores.extraction import Extracted
from vectorstores.ingestion.chunking import (
    DEFAULT_CHUNKING,
    Chunk,
    Chunking,
    chunk_size,
    cut_by_structure,
    cut_with_facts,
    file_chunk_size,
)
from vectorstores.ingestion.destination import Destination
from vectorstores.registry import STORES

DEFAULT_SOURCE = "text_entry_global_form"  # AI Puffer's, for texts that name no source
MAX_ID = 80  # characters
INTEGER_BITS = 63  # plus a sign: JSON and the stores disagree on larger integers
# Keys that ingestion writes itself, and the text, which is stored separately.
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
    """A document that is not stored yet. `values` are the embeddings of its chunks, if it brings them along."""

    parent_id: str
    chunks: Sequence[Chunk]
    metadata: Metadata
    source: str = ""  # the file or URL it was read from; "" for the API
    origin: str = ""  # the argument of the import, such as a folder or a sitemap
    content_hash: str = ""
    has_own_id: bool = True  # otherwise the id is random, so nothing is stored under it yet
    values: Sequence[Floats] = ()
    is_new: bool = False  # nothing can be stored under its id yet, so there is nothing to replace

    @property
    def title(self) -> str:
        return str(self.metadata.get("title", ""))

    def vector_id(self, index: int) -> str:
        """Return the id of a chunk: the id of the document if it has only one chunk."""
        return self.parent_id if len(self.chunks) == 1 else f"{self.parent_id}_chunk_{index}"

    def vector_metadata(self, index: int) -> Metadata:
        chunk = self.chunks[index]
        metadata: Metadata = {
            **self.metadata,
            **chunk.metadata,
            "vector_id": self.vector_id(index),
            "parent_vector_id": self.parent_id,
            "chunk_index": index,
            "total_chunks": len(self.chunks),
            "char_start": chunk.start,
            "char_end": chunk.end,
        }
        return metadata | {"headings": chunk.headings} if chunk.headings else metadata

    def text_to_embed(self, index: int) -> str:
        """Return the chunk below the title of its document and its headings, which say what the chunk is about."""
        chunk = self.chunks[index]
        above = [line for line in (self.title, chunk.headings) if line and not chunk.text.startswith(line)]
        return "\n".join([*above, chunk.text])


def make_document(
    item: Mapping[str, Any],
    destination: Destination,
    *,
    chunking: Chunking = DEFAULT_CHUNKING,
    extracted: Extracted | None = None,
    facts: str = "",
    source: str = "",
    origin: str = "",
) -> NewDocument:
    """Make a document of an item as the API accepts it: content, id, metadata, uri.

    `extracted` is the content of a file, which is cut where its structure allows; other texts are cut by characters.
    `facts` are lines that end each chunk.
    """
    given = item.get("metadata") or {}
    parent_id = first_id(given.get("parent_vector_id"), item.get("id"), given.get("id"))
    metadata = clean_metadata(given)
    if item.get("uri"):
        metadata["uri"] = without_markup(item["uri"])
    metadata["source"] = clean_key(str(metadata.get("source", ""))) or DEFAULT_SOURCE
    text = storable(item["content"])
    hashed = {key: value for key, value in metadata.items() if key != "date"}  # some sites say "now" at each request
    provider, model = destination.embedding_provider, destination.embedding_model
    largest = chunk_size(provider, model, STORES[destination.store].max_chunk_characters)
    if extracted:
        size = min(chunking.size or file_chunk_size(provider), largest)
        chunks = cut_by_structure(extracted, size, min(chunking.overlap, size // 2))
    else:
        size = min(chunking.size or largest, largest)
        chunks = cut_with_facts(text, storable(facts), size)
    return NewDocument(
        parent_id=parent_id or f"text_{uuid.uuid4()}",
        chunks=chunks,
        metadata=metadata,
        source=source,
        origin=origin,
        content_hash=hash_of([text, hashed, provider, model, size, chunking.overlap, *([facts] if facts else [])]),
        has_own_id=bool(parent_id),
    )


def document_from_chunks(
    vectors: Sequence[Vector],
    *,
    with_values: bool,
    source: str = "",
    origin: str = "",
    hashed_with: Sequence[Any] = (),
) -> NewDocument:
    """Rebuild a document from all its stored chunks, in their order. The chunks get new ids from vector_id().

    `hashed_with` becomes part of the content hash, so that the document is stored again when it changes.
    """
    own = [clean_metadata(vector.metadata) for vector in vectors]
    headings = [str(metadata.pop("headings", "")) for metadata in own]
    common = {key: value for key, value in own[0].items() if all(other.get(key) == value for other in own)}
    common["source"] = clean_key(str(common.get("source", ""))) or DEFAULT_SOURCE
    chunks = [
        Chunk(
            text=storable(vector.text),
            start=int_or(vector.metadata.get("char_start"), 0),
            end=int_or(vector.metadata.get("char_end"), len(vector.text)),
            headings=path,
            metadata={key: value for key, value in metadata.items() if key not in common},
        )
        for vector, metadata, path in zip(vectors, own, headings, strict=True)
    ]
    values = [vector.values for vector in vectors] if with_values else []
    hash_of_values = hashlib.sha256(b"".join(array.tobytes() for array in values)).hexdigest()
    content = [[chunk.text, chunk.start, chunk.end, chunk.headings, chunk.metadata] for chunk in chunks]
    return NewDocument(
        parent_id=first_id(vectors[0].parent_id, vectors[0].id) or f"text_{uuid.uuid4()}",
        chunks=chunks,
        metadata=common,
        source=source,
        origin=origin,
        content_hash=hash_of([content, common, hash_of_values, *hashed_with]),
        values=values,
    )


def hash_of(content: Sequence[Any]) -> str:
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def int_or(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def first_id(*candidates: Any) -> str:
    """Return the first candidate that is not empty after removing characters the stores reject in ids; "" if none."""
    for candidate in candidates:
        if isinstance(candidate, str | int | float) and not isinstance(candidate, bool):
            cleaned = NOT_IN_IDS.sub("_", str(candidate)).strip("_.:-")[:MAX_ID]
            if cleaned:
                return cleaned
    return ""


def clean_key(key: str) -> str:
    return NOT_IN_KEYS.sub("", key.lower())


def clean_metadata(given: Mapping[str, Any]) -> Metadata:
    """Return scalars and lists of strings under clean keys. Objects, other lists and nulls are dropped."""
    metadata: Metadata = {}
    for name, value in given.items():
        key = clean_key(name)
        if key and key not in RESERVED and (cleaned := clean_value(value)) is not None:
            metadata[key] = cleaned
    return metadata


def clean_value(value: Any) -> Value | None:
    """Return the value as it is stored; None if no store can hold it."""
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
            "A metadata value contains too many unclosed HTML tags.", status=400, code="rest_invalid_param"
        ) from None
    return LINE_BREAKS.sub(" ", text).strip()
