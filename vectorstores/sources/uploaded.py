"""What was uploaded in the admin -> rows."""

import io
from collections.abc import Iterable, Iterator
from pathlib import PurePath

import orjson

from vectorstores.ingestion.extract import MEDIA_TYPES, media_type_of
from vectorstores.models import Upload
from vectorstores.sources.files import ROW_TYPES, Sources
from vectorstores.sources.row_files import json_lines
from vectorstores.sources.rows import Refused, Row, document_row, stable_id

READABLE = (*MEDIA_TYPES, *ROW_TYPES)  # endings of files
# What a document's source says, where it was no file, and so its origin too.
PASTED, ANSWERED = "Pasted text", "Question and answer"
OF_FILES = "Upload: "  # how the origin of a document from a file begins


def origin_of(kind: str, name: str) -> str:
    return {Upload.Kind.TEXT: PASTED, Upload.Kind.QUESTIONS: ANSWERED}.get(Upload.Kind(kind), f"{OF_FILES}{name}")


def uploaded_rows(kind: str, name: str, data: bytes) -> Iterator[Row | Refused]:
    """A document is known by its file's name, so the same name again replaces it."""
    origin, ending = origin_of(kind, name), PurePath(name).suffix.lower()
    if kind != Upload.Kind.FILE:
        yield from json_lines(io.BytesIO(data), origin, origin)
    elif ending in MEDIA_TYPES:
        yield document_row(data, media_type_of(name), name, origin, key=f"upload/{name}", metadata={"file_name": name})
    else:
        yield from Sources([]).rows_in(ending, io.BytesIO(data), name, origin)


def pasted_text(title: str, text: str, url: str) -> bytes:
    """As uploaded_rows() reads it. The same title again replaces the text."""
    metadata = {"title": title, "url": url} if url else {"title": title}
    return orjson.dumps({"id": stable_id(f"text/{title}"), "content": text, "metadata": metadata})


def answered_questions(pairs: Iterable[tuple[str, str]]) -> bytes:
    """As uploaded_rows() reads them, one document a pair. The same question again replaces the answer."""
    items = (
        {"id": stable_id(f"question/{question}"), "content": answer, "metadata": {"title": question}}
        for question, answer in pairs
    )
    return b"\n".join(orjson.dumps(item) for item in items)
