"""Group chunks that arrive in any order into whole documents.

The chunks of a document usually arrive together. Scattered ones wait in a temporary file, because they may be a whole
collection.
"""

import pickle
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, TypeVar

from vectorstores.base import Vector

Item = TypeVar("Item")


def group_chunks(items: Iterable[Item], vector_of: Callable[[Item], Vector | None]) -> Iterator[list[Item]]:
    """Yield the chunks of each document in a list, in their order; of chunks with the same id only the last.

    An item without a vector is yielded in a list of its own.
    """

    def parent_of(item: Item) -> str | None:
        vector = vector_of(item)
        return vector.parent_id if vector else None

    def in_order(chunks: Iterable[Item]) -> list[Item]:
        each = {vector.id: (index_of(vector), chunk) for chunk in chunks if (vector := vector_of(chunk))}
        return [chunk for _, chunk in sorted(each.values(), key=lambda pair: pair[0])]

    with ScatteredChunks() as scattered:
        for parent_id, together in groupby(items, parent_of):
            if parent_id is None:
                yield from ([item] for item in together)
                continue
            chunks = in_order(together)
            vector = vector_of(chunks[0])
            if vector and vector.metadata.get("total_chunks", 1) == len(chunks):
                yield chunks
            else:
                scattered.add(parent_id, chunks)
        for pieces in scattered.documents():
            yield in_order(pieces)


def index_of(vector: Vector) -> int:
    index = vector.metadata.get("chunk_index")
    return index if isinstance(index, int) else 0


class ScatteredChunks:
    """Pieces of documents in a temporary file, which SQLite creates and removes."""

    def __enter__(self) -> "ScatteredChunks":
        # Several threads may read the chunks one after another, never two at a time.
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
            yield [chunk for _, chunks in rows for chunk in pickle.loads(chunks)]  # noqa: S301  pickled by add()
