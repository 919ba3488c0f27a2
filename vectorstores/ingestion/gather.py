"""Chunks in whatever order -> the documents that they are of, each whole.

Most come one document after the other. What comes scattered waits in a temporary file: it may be a whole collection.
"""

import pickle
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, TypeVar

from vectorstores.base import Vector

Found = TypeVar("Found")


def gathered(found: Iterable[Found], vector_of: Callable[[Found], Vector | None]) -> Iterator[list[Found]]:
    """In each list the chunks of a document in their order, and none twice: the last of an id counts.

    What has no vector passes through, in a list of its own.
    """

    def parent_of(one: Found) -> str | None:
        vector = vector_of(one)
        return vector.parent_id if vector else None

    def in_order(chunks: Iterable[Found]) -> list[Found]:
        each = {vector.id: (index_of(vector), chunk) for chunk in chunks if (vector := vector_of(chunk))}
        return [chunk for _, chunk in sorted(each.values(), key=lambda pair: pair[0])]

    with Waiting() as waiting:
        for parent_id, together in groupby(found, parent_of):
            if parent_id is None:
                yield from ([one] for one in together)
                continue
            chunks = in_order(together)
            vector = vector_of(chunks[0])
            if vector and vector.metadata.get("total_chunks", 1) == len(chunks):
                yield chunks
            else:
                waiting.add(parent_id, chunks)
        for scattered in waiting.documents():
            yield in_order(scattered)


def index_of(vector: Vector) -> int:
    index = vector.metadata.get("chunk_index")
    return index if isinstance(index, int) else 0


class Waiting:
    """Pieces of documents, in a file that SQLite makes for itself and removes in the end."""

    def __enter__(self) -> "Waiting":
        # One thread after another may read the chunks, never two at a time.
        self.file = sqlite3.connect("", check_same_thread=False)
        self.file.execute("CREATE TABLE pieces (parent_id TEXT, chunks BLOB)")
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, parent_id: str, chunks: list[Any]) -> None:
        self.file.execute("INSERT INTO pieces VALUES (?, ?)", (parent_id, pickle.dumps(chunks)))

    def documents(self) -> Iterator[list[Any]]:
        self.file.execute("CREATE INDEX by_parent ON pieces (parent_id)")
        pieces = self.file.execute("SELECT parent_id, chunks FROM pieces ORDER BY parent_id, rowid")
        for _, rows in groupby(pieces, key=lambda row: row[0]):
            yield [chunk for _, chunks in rows for chunk in pickle.loads(chunks)]  # noqa: S301  our own, of a moment ago
