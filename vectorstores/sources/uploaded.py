"""Read uploads from the admin: files, pasted texts, questions with answers."""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import orjson
from django.db.models import QuerySet

from vectorstores.extraction import MEDIA_TYPES, media_type_of
from vectorstores.ingestion.rows import File, Found, file_row, stable_id
from vectorstores.models import Document, Upload
from vectorstores.registry import STORES
from vectorstores.sources.columns import COLUMN_ROLES, Columns
from vectorstores.sources.files import Sources
from vectorstores.sources.row_files import json_lines

# The source, and so the origin, of documents that do not come from a file.
PASTED, ANSWERED = "Pasted text", "Question and answer"
FILE_PREFIX = "Upload: "  # of the origin of a document from a file

Item = dict[str, Any]  # as the API accepts it


def origin_of(kind: str, name: str) -> str:
    return {Upload.Kind.TEXT: PASTED, Upload.Kind.QUESTIONS: ANSWERED}.get(Upload.Kind(kind), f"{FILE_PREFIX}{name}")


def documents_of(upload: Upload) -> QuerySet[Document]:
    """Return the documents that the upload has stored, except if a later one of the same name has replaced them."""
    documents = Document.objects.filter(
        collection__store=upload.store,
        collection__name=upload.target,
        namespace=upload.namespace if STORES[upload.store].has_namespaces else "",
    )
    if upload.kind == Upload.Kind.QUESTIONS:
        return documents.filter(parent_vector_id__in=upload.document_ids)
    if Upload.objects.versions_of(upload).filter(pk__gt=upload.pk, documents__gt=0).exists():
        return documents.none()
    if upload.kind == Upload.Kind.TEXT:
        return documents.filter(parent_vector_id=text_item(upload.name, "")["id"])
    return documents.filter(origin=origin_of(upload.kind, upload.name))


def uploaded_rows(kind: str, name: str, data: bytes, options: Mapping[str, str]) -> Iterator[Found]:
    """Yield the rows of an upload. A file is identified by its name, so the same name again replaces its document.

    The options are those of the model Upload.
    """
    origin = origin_of(kind, name)
    if kind == Upload.Kind.FILE:
        yield from file_rows(name, data, origin, key=f"upload/{name}", options=options)
    else:
        yield from json_lines(io.BytesIO(data), origin, origin)


def file_rows(
    name: str, data: bytes, origin: str, *, key: str, options: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Found]:
    """Yield the row of a file, which is identified by its `key`, or the rows in it."""
    encoding, suffix = options.get("encoding"), PurePath(name).suffix.lower()
    if suffix in MEDIA_TYPES:
        file = File(data, media_type_of(name), encoding, default_title=PurePath(name).stem)
        yield file_row(file, name, origin, key=key, metadata={"file_name": name})
    else:
        columns = Columns(**{role: options.get(role, "") for role in COLUMN_ROLES})
        yield from Sources([], columns, encoding=encoding).rows_in(suffix, io.BytesIO(data), name, origin)


def text_item(title: str, text: str, url: str = "") -> Item:
    """Return the item of a typed text. The title makes the id, so the same title again replaces the text."""
    metadata = {"title": title, "url": url} if url else {"title": title}
    return {"id": stable_id(f"text/{title}"), "content": text, "metadata": metadata}


def answer_item(question: str, answer: str, url: str = "") -> Item:
    """Return the item of a question and its answer. The question makes the id, so a new answer replaces the old one."""
    return text_item(question, answer, url) | {"id": stable_id(f"question/{question}")}


# What was typed in the admin, by origin. The item of such a document has everything that was typed.
TYPED = {PASTED: text_item, ANSWERED: answer_item}


def as_lines(items: Iterable[Item]) -> bytes:
    """Serialize items for uploaded_rows(), each a document of its own."""
    return b"\n".join(map(orjson.dumps, items))
