"""Rows, which the sources yield and the pipeline turns into documents, and refusals of unreadable content."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from puffer.api import ApiError
from puffer.text import storable
from vectorstores.base import Vector
from vectorstores.ingestion.documents import first_id
from vectorstores.ingestion.embedding import as_floats

NOT_IN_SLUGS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class File:
    """The bytes of a file or page. `default_title` is used if neither the row nor the content has a title."""

    data: bytes
    media_type: str
    charset: str | None = None
    default_title: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An item with the keys of the API: content, id (always set), metadata, uri.

    `place` says for users where the row was found, `source` is the file or page, `origin` the argument of the
    import. A row with a `file` has no content yet: it is extracted from the file. A row with a `vector` is a chunk that
    brings its embedding, made by the provider and model in `embedding` ("" if unknown). `facts` are "name: value" lines
    that belong to every chunk of the text, for example a price.
    """

    item: Mapping[str, Any]
    place: str
    source: str
    origin: str
    file: File | None = None
    vector: Vector | None = None
    embedding: tuple[str, str] = ("", "")
    facts: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Content that could not be stored, and the reason. `document_id` is the id that the document would have had.

    `hides_documents` means that it may contain unknown documents, so no stored document can be taken for deleted.
    """

    place: str
    reason: str
    hides_documents: bool = False
    document_id: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A message about a source for users, although nothing failed.

    `left_out` is the number of documents that are not stored on purpose, for example drafts.
    """

    place: str
    text: str
    left_out: int = 0


Found = Row | Refused | Note


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def stable_id(key: str) -> str:
    """Return a readable id that is the same at every import of the file, page or text with this key."""
    slug = NOT_IN_SLUGS.sub("-", key.lower()).strip("-")[-50:].strip("-")
    return f"{slug}-{short_hash(key)}" if slug else short_hash(key)


def item_row(item: Any, place: str, source: str, origin: str) -> Row | Refused:
    """Check an item of the API, which may also have `values` as export_vectors writes them.

    An item without an id is identified by its URI, otherwise by its text: a changed text is then another document.
    """
    if not isinstance(item, dict):
        return Refused(place, "It is not a JSON object.", True)
    content, uri, metadata = item.get("content"), item.get("uri") or "", item.get("metadata") or {}
    if not isinstance(metadata, dict):
        return Refused(place, '"metadata" is not a JSON object.', True)
    own_id = first_id(metadata.get("parent_vector_id"), item.get("id"), metadata.get("id"))
    if not isinstance(content, str) or not (text := storable(content)).strip():
        return Refused(place, 'It has no text under "content".', not own_id, own_id)
    if not isinstance(item.get("id") or "", str | int) or not isinstance(uri, str):
        return Refused(place, '"id" and "uri" must be strings.', not own_id, own_id)
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


def file_row(file: File, source: str, origin: str, *, key: str, metadata: Mapping[str, Any]) -> Row:
    """Return the row of a file or page, which is identified by its `key`."""
    return Row({"id": stable_id(key), "metadata": metadata}, source, source, origin, file)
