"""No document is lost without a word, wherever a file is damaged: what is read and what is named is everything.

A document whose own bytes are whole is read in full, or a refusal says that documents are hidden from there on. A file
that is a document of its own is read, or refused, or left out with a note.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.knowledge.imports import post, wxr
from vectorstores.ingestion.chunking import DEFAULT_CHUNKING
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.pipeline import documents_from_rows
from vectorstores.ingestion.rows import Note, Refused
from vectorstores.sources.uploaded import uploaded_rows

pytestmark = pytest.mark.slow

HERE = Destination("local", "shop", "openai", "emb-1")
SENTENCES = [f"Document number {number}: größere Kannen kosten {number}0 Euro." for number in range(6)]
OBJECTS = [json.dumps({"id": f"d{n}", "content": text}, ensure_ascii=False) for n, text in enumerate(SENTENCES)]
POSTS = [post(n, content=f"<p>{text}</p>") for n, text in enumerate(SENTENCES)]
PARAGRAPHS = "".join(f"<p>{text}</p>" for text in SENTENCES)

# Files of several documents: what is before them, the documents, what is between and behind them.
ROWS = {
    "plain.csv": ("id,content,price\r\n", [f"{n},{text},{n}9" for n, text in enumerate(SENTENCES)], "\r\n", "\r\n"),
    "quoted.csv": ("id;content;price\n", [f'"{n}";"{text}";"{n}9"' for n, text in enumerate(SENTENCES)], "\n", "\n"),
    "lines.csv": ("id,content\n", [f'{n},"{text}\nSecond, line"' for n, text in enumerate(SENTENCES)], "\n", "\n"),
    "rows.jsonl": ("", OBJECTS, "\n", "\n"),
    "rows.json": ("[", OBJECTS, ", ", "]"),
    "indented.json": ("[\n", [text.replace(", ", ",\n  ") for text in OBJECTS], ",\n", "\n]\n"),
    "request.json": ('{"provider": "local", "vectors": [', OBJECTS, ",", "]}"),
    "in_a_row.json": ("", [text.replace(", ", ",\n  ") for text in OBJECTS], "\n", "\n"),
    "blog.xml": (*wxr("|").split("|")[:1], POSTS, "\n", wxr("|").split("|")[1]),
}
# Files that are one document.
WHOLE = {
    "a.txt": "\n".join(SENTENCES).encode(),
    "b.txt": "\n".join(SENTENCES).encode("cp1252"),
    "c.txt": "\n".join(SENTENCES).encode("utf-16"),
    "a.md": f"---\ntitle: Kannen\ndraft: false\n---\n# Kannen\n\n<!-- none -->\n{'|'.join(SENTENCES)}\n".encode(),
    "a.html": f"<html><head><title>Kannen</title></head><body><article>{PARAGRAPHS}</article></body></html>".encode(),
}
DAMAGE = st.tuples(
    st.floats(0, 1, exclude_max=True),  # where, as a part of the file
    st.integers(0, 30),  # bytes that are removed there
    st.one_of(st.binary(max_size=4), st.text('",;\r\n\t|{}[]<>&\\-', max_size=3).map(str.encode)),  # what is put there
)


def found_in(name: str, data: bytes) -> list[NewDocument | Refused | Note]:
    return list(documents_from_rows(uploaded_rows("file", name, data, {}), HERE, DEFAULT_CHUNKING))


def text_of(found: list[NewDocument | Refused | Note]) -> str:
    return "\n".join(chunk.text for one in found if isinstance(one, NewDocument) for chunk in one.chunks)


def is_told(found: list[NewDocument | Refused | Note]) -> bool:
    return any(isinstance(one, Refused) and one.hides_documents for one in found)


def laid_out(name: str) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a file, and from where to where each of its documents goes, with what is around it."""
    before, documents, between, behind = ROWS[name]
    data, places = before.encode(), []
    for document in documents:
        start = len(data)
        data += document.encode() + between.encode()
        places.append((start - len(between), len(data)))
    return data.removesuffix(between.encode()) + behind.encode(), places


@pytest.mark.parametrize("name", ROWS)
def test_a_whole_file_is_read(name):
    found = found_in(name, laid_out(name)[0])
    assert len(found) == len(SENTENCES)
    assert all(text in text_of(found) for text in SENTENCES)


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(damage=DAMAGE)
def test_whole_documents_of_a_damaged_file_are_read_or_named(name, damage):
    data, places = laid_out(name)
    part, removed, put = damage
    at = int(part * len(data))
    found = found_in(name, data[:at] + put + data[at + removed :])
    whole = [number for number, (start, end) in enumerate(places) if end <= at or at + removed < start]
    missing = [number for number in whole if SENTENCES[number] not in text_of(found)]
    has_other_columns = name.endswith(".csv") and at <= places[0][0]  # a damaged header changes what they mean
    assert not missing or is_told(found) or has_other_columns, found
    assert found


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(part=st.floats(0, 1, exclude_max=True))
def test_whole_documents_of_a_truncated_file_are_read_or_named(name, part):
    data, places = laid_out(name)
    end = int(part * len(data))
    found = found_in(name, data[:end])
    missing = [
        number for number, (_, last) in enumerate(places) if last <= end and SENTENCES[number] not in text_of(found)
    ]
    assert not missing or is_told(found), found
    has_known_end = name in ("rows.json", "indented.json", "request.json", "blog.xml")
    assert is_told(found) or not has_known_end or data[:end].strip() == data.strip()
    assert found


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(damage=DAMAGE, is_cut=st.booleans())
def test_a_damaged_file_is_one_document_or_refused(name, damage, is_cut):
    data = WHOLE[name]
    part, removed, put = damage
    at = int(part * len(data))
    found = found_in(name, data[:at] if is_cut else data[:at] + put + data[at + removed :])
    assert len([one for one in found if isinstance(one, NewDocument | Refused) or one.left_out]) == 1, found
