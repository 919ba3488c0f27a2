"""What sources consist of: rows to be stored, and what could not be read."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puffer.api import ApiError
from puffer.text import storable
from vectorstores.base import Vector
from vectorstores.ingestion.documents import first_id
from vectorstores.ingestion.embedding import as_floats
from vectorstores.ingestion.extract import Extracted, Unreadable, extract

NOT_IN_SLUGS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Row:
    """An item as the API takes it: content, id, metadata, uri; the id is always there.

    `place` tells a person where it was found, `source` is the file or page, `origin` what the import was told to read.
    `extracted` is there for a document, whose structure is known; `vector` for a chunk that brings its embedding, and
    then `embedding` is the provider and the model that made it, or "" twice.
    """

    item: Mapping[str, Any]
    place: str
    source: str
    origin: str
    extracted: Extracted | None = None
    vector: Vector | None = None
    embedding: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Refused:
    """What could not be read, and why. `document_id` is that of the document that it would have been.

    `hides_documents`: nobody knows which ones are behind it, so none may be taken for vanished.
    """

    place: str
    reason: str
    hides_documents: bool = False
    document_id: str = ""


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def stable_id(key: str) -> str:
    """The same for the same file, page or text at every import, and readable."""
    slug = NOT_IN_SLUGS.sub("-", key.lower()).strip("-")[-50:].strip("-")
    return f"{slug}-{short_hash(key)}" if slug else short_hash(key)


def item_row(item: Any, place: str, source: str, origin: str) -> Row | Refused:
    """A row that has an item's keys, and perhaps `values`, as export_vectors writes them.

    Without an id it is known by its URI, else by its text: then a changed text is another document.
    """
    if not isinstance(item, dict):
        return Refused(place, "It is no JSON object.", True)
    content, uri, metadata = item.get("content"), item.get("uri") or "", item.get("metadata") or {}
    if not isinstance(metadata, dict):
        return Refused(place, '"metadata" is no JSON object.', True)
    own_id = first_id(metadata.get("parent_vector_id"), item.get("id"), metadata.get("id"))
    if not isinstance(content, str) or not (text := storable(content)).strip():
        return Refused(place, 'It has no text under "content".', not own_id, own_id)
    if not isinstance(item.get("id") or "", str | int) or not isinstance(uri, str):
        return Refused(place, '"id" and "uri" must be texts.', not own_id, own_id)
    document_id = own_id or (stable_id(uri) if uri else f"text-{short_hash(text)}")
    given = {"content": text, "metadata": metadata, "uri": uri, "id": document_id}
    if item.get("values") is None:
        return Row(given, place, source, origin)
    try:
        values = as_floats(item["values"])
    except (ApiError, ValueError, TypeError, OverflowError):
        return Refused(place, '"values" must be a list of numbers.', not own_id, own_id)
    if not own_id:
        return Refused(place, 'A row with "values" needs an id.', True)
    vector = Vector(str(item.get("id") or own_id), values, text, {**metadata, "parent_vector_id": own_id})
    embedding = str(item.get("embedding_provider") or ""), str(item.get("embedding_model") or "")
    return Row(given, place, source, origin, vector=vector, embedding=embedding)


def document_row(
    data: bytes,
    media_type: str,
    source: str,
    origin: str,
    *,
    key: str,
    metadata: Mapping[str, Any],
    charset: str | None = None,
) -> Row | Refused:
    """A file or page, known by its `key`."""
    document_id = stable_id(key)
    try:
        extracted = extract(data, media_type, charset)
    except Unreadable as error:
        return Refused(source, str(error), document_id=document_id)
    if not extracted.text:
        return Refused(source, "It is empty.", document_id=document_id)
    title = extracted.title or Path(key).stem
    item = {"content": extracted.text, "id": document_id, "metadata": {"title": title, **metadata}}
    return Row(item, source, source, origin, extracted)
