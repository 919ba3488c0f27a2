"""Read uploads from the admin: files, pasted texts, questions with answers."""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

import orjson

from vectorstores.extraction import MEDIA_TYPES, media_type_of
from vectorstores.ingestion.rows import File, Found, file_row, stable_id
from vectorstores.models import Upload
from vectorstores.sources.columns import COLUMN_ROLES, Columns
from vectorstores.sources.files import Sources
from vectorstores.sources.row_files import json_lines

# The source, and so the origin, of documents that do not come from a file.
PASTED, ANSWERED = "Pasted text", "Question and answer"
FILE_PREFIX = "Upload: "  # of the origin of a document from a file


def origin_of(kind: str, name: str) -> str:
    return {Upload.Kind.TEXT: PASTED, Upload.Kind.QUESTIONS: ANSWERED}.get(Upload.Kind(kind), f"{FILE_PREFIX}{name}")


def uploaded_rows(kind: str, name: str, data: bytes, options: Mapping[str, str]) -> Iterator[Found]:
    """Yield the rows of an upload. A file is identified by its name, so the same name again replaces its document.

    The options are those of the model Upload.
    """
    encoding = options.get("encoding")
    origin, suffix = origin_of(kind, name), PurePath(name).suffix.lower()
    if kind != Upload.Kind.FILE:
        yield from json_lines(io.BytesIO(data), origin, origin)
    elif suffix in MEDIA_TYPES:
        file = File(data, media_type_of(name), encoding, default_title=PurePath(name).stem)
        yield file_row(file, name, origin, key=f"upload/{name}", metadata={"file_name": name})
    else:
        columns = Columns(**{role: options.get(role, "") for role in COLUMN_ROLES})
        yield from Sources([], columns, encoding=encoding).rows_in(suffix, io.BytesIO(data), name, origin)


def pasted_text(title: str, text: str, url: str) -> bytes:
    """Serialize a text for uploaded_rows(). The same title again replaces the text."""
    metadata = {"title": title, "url": url} if url else {"title": title}
    return orjson.dumps({"id": stable_id(f"text/{title}"), "content": text, "metadata": metadata})


def answered_questions(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Serialize questions with answers for uploaded_rows(), each a document of its own."""
    return b"\n".join(orjson.dumps(answer_item(question, answer)) for question, answer in pairs)


def answer_item(question: str, answer: str, url: str = "") -> dict[str, object]:
    """Return the item of a question and its answer. The question makes the id, so a new answer replaces the old one."""
    metadata = {"title": question, "url": url} if url else {"title": question}
    return {"id": stable_id(f"question/{question}"), "content": answer, "metadata": metadata}
