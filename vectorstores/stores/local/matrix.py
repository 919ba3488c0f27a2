"""The vectors of the local store in memory: one matrix per collection and namespace, in blocks.

A matrix follows its table, so that a query is a product of each block and the question. A vector of 384 numbers takes
1.5 KB, and 100,000 of them 154 MB in each process that searches them. A collection that exceeds
settings.VECTOR_MEMORY_BYTES is read from the database for each query.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from numpy.typing import NDArray

from vectorstores.base import Floats
from vectorstores.models import Collection, LocalVector
from vectorstores.stores.local.deletions import Keys, deleted_since

BLOCK_BYTES = 16 * 1024**2
FIRST_ROOM = 64  # rows; it doubles up to BLOCK_BYTES
READ_AT_ONCE = 2000  # rows
KEYS_AT_ONCE = 500  # in a condition
MAX_DELETED = 0.25  # of a block, before its other rows are copied to a new one

Blob = bytes | memoryview
MakeRoom = Callable[["Matrix"], bool]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Block:
    """An immutable view of rows in the order of their primary keys. The room behind them is for newer rows."""

    key_room: Keys
    row_room: Floats  # len(key_room) x dimension, each of length 1
    deleted: NDArray[np.bool_]  # for each row: whether it is deleted but still in place

    @property
    def size(self) -> int:
        return len(self.deleted)

    @property
    def count(self) -> int:
        """Return the number of rows that are not deleted."""
        return self.size - int(np.count_nonzero(self.deleted))

    @property
    def keys(self) -> Keys:
        return self.key_room[: self.size]

    @property
    def rows(self) -> Floats:
        return self.row_room[: self.size]

    @property
    def room(self) -> int:
        return len(self.key_room) - self.size

    def positions_of(self, keys: Keys) -> NDArray[np.int64]:
        """Return the positions of those of the ascending keys that are in this block."""
        at = np.searchsorted(self.keys, keys)
        inside = at < self.size
        at, keys = at[inside], keys[inside]
        return at[(self.keys[at] == keys) & ~self.deleted[at]]

    def without(self, keys: Keys) -> "Block":
        at = self.positions_of(keys)
        if not len(at):
            return self
        deleted = self.deleted.copy()
        deleted[at] = True
        return Block(self.key_room, self.row_room, deleted)

    def extended(self, keys: Sequence[int], blobs: Sequence[Blob]) -> "Block":
        """Return a view with more rows, which are written behind those that the previous views show."""
        end = self.size + len(keys)
        self.key_room[self.size : end] = keys
        self.row_room[self.size : end] = np.frombuffer(b"".join(blobs), "<f4").reshape(len(keys), -1)
        return Block(self.key_room, self.row_room, np.append(self.deleted, np.zeros(len(keys), np.bool_)))

    def scores(self, values: Floats, wanted: Keys | None) -> tuple[Keys, Floats]:
        """Return keys and cosines of all rows, or of the wanted rows. The keys are in ascending order."""
        if wanted is None:
            scores = cosines_of(self.rows, values)
            scores[self.deleted] = -np.inf
            return self.keys, scores
        at = self.positions_of(wanted)
        if 4 * len(at) > self.size:  # copying these rows costs more than comparing all
            return self.keys[at], cosines_of(self.rows, values)[at]
        return self.keys[at], cosines_of(self.rows[at], values)


def cosines_of(rows: Floats, values: Floats) -> Floats:
    """Compare row by row: the product of OpenBLAS takes twice the CPU time, and its threads wait for each other."""
    return np.vecdot(rows, values)


def empty_block(room: int, dimension: int) -> Block:
    return Block(np.empty(room, np.int64), np.empty((room, dimension), np.float32), np.empty(0, np.bool_))


def joined(blocks: Sequence[Block], room: int) -> Block:
    """Return a block with room for `room` rows that contains the rows of the blocks, except the deleted ones."""
    new, end = empty_block(room, blocks[0].row_room.shape[1]), 0
    for block in blocks:
        start, end, kept = end, end + block.count, ~block.deleted
        new.key_room[start:end] = block.keys[kept]
        new.row_room[start:end] = block.rows[kept]
    return Block(new.key_room, new.row_room, np.zeros(end, np.bool_))


class Matrix:
    """The vectors of a collection and namespace, brought up to date by follow()."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.block_rows = max(1, BLOCK_BYTES // (4 * dimension))
        self.lock = threading.Lock()  # one thread reads changes, the others wait for it
        self.is_refused = False
        self.forget()

    def forget(self) -> None:
        self.blocks: tuple[Block, ...] | None = None  # None: not loaded
        self.version = self.deletions = -1
        self.bytes = 0

    def follow(self, collection: Collection, namespace: str, make_room: MakeRoom) -> Sequence[Block] | None:
        """Return the vectors at the collection's version or a newer one; None if `make_room` refuses them.

        Raise Collection.DoesNotExist.
        """
        version, blocks = self.version, self.blocks
        if blocks is not None and version == collection.version:
            return blocks
        with self.lock:
            collection.refresh_from_db(fields=["version", "deletions"])
            if collection.version < self.version:  # an older database was restored
                self.forget()
            if collection.version != self.version:
                self.read(collection, namespace, make_room)
            return self.blocks

    def read(self, collection: Collection, namespace: str, make_room: MakeRoom) -> None:
        """Add the new rows of the table and mark its deleted rows.

        Rows are never changed, and new rows have higher keys than all before: see Local.lock(). Rows committed during
        the read may already be included. Deletions are read first, so a document replaced in between appears twice,
        which Local.search() detects, instead of not at all.
        """
        table = LocalVector.objects.filter(collection=collection, namespace=namespace)
        blocks = list(self.blocks or ())
        if blocks and self.deletions != collection.deletions:
            blocks = self.without_deleted(blocks, collection, table)
        new = table.filter(pk__gt=blocks[-1].keys[-1]) if blocks else table
        self.bytes = 4 * self.dimension * (sum(block.size for block in blocks) + new.count())
        if not make_room(self):
            if not self.is_refused:
                logger.warning(
                    "The vectors of the collection %s need %d MB, more than VECTOR_MEMORY_BYTES. "
                    "Each search reads them from the database.", collection.name, self.bytes / 1e6
                )  # fmt: skip
            self.is_refused = True
            self.forget()
            return
        self.is_refused = False
        for keys, blobs in pages_of(new):
            self.append(blocks, keys, blobs)
        self.blocks, self.deletions, self.version = tuple(blocks), collection.deletions, collection.version

    def without_deleted(
        self, blocks: Sequence[Block], collection: Collection, table: "QuerySet[LocalVector]"
    ) -> list[Block]:
        """Return the blocks without the rows that were deleted. Few rows are copied: see `joined`."""
        gone = deleted_since(collection, self.deletions)
        if gone is None:
            known = np.concatenate([block.keys for block in blocks])
            existing = table.order_by().values_list("pk", flat=True).iterator()
            gone = np.setdiff1d(known, np.fromiter(existing, np.int64), assume_unique=True)
        gone = np.sort(gone)
        left: list[Block] = []
        for block in (block.without(gone) for block in blocks):
            count = block.count
            # The quarter that stays free must fill before the neighbors can be joined again.
            if left and left[-1].count + count <= 0.75 * self.block_rows:
                left[-1] = joined([left[-1], block], self.block_rows)
            elif count < (1 - MAX_DELETED) * block.size:
                left.append(joined([block], min(self.block_rows, max(FIRST_ROOM, 2 * count))))
            else:
                left.append(block)
        return [block for block in left if block.size]

    def append(self, blocks: list[Block], keys: Sequence[int], blobs: Sequence[Blob]) -> None:
        while keys:
            if not blocks:  # a small collection does not take a whole block
                blocks.append(empty_block(min(FIRST_ROOM, self.block_rows), self.dimension))
            elif not blocks[-1].room and blocks[-1].size < self.block_rows:
                blocks[-1] = joined(blocks[-1:], min(self.block_rows, 2 * blocks[-1].size))
            elif not blocks[-1].room:
                blocks.append(empty_block(self.block_rows, self.dimension))
            taken = blocks[-1].room
            blocks[-1] = blocks[-1].extended(keys[:taken], blobs[:taken])
            keys, blobs = keys[taken:], blobs[taken:]


_matrices: "OrderedDict[tuple[object, ...], Matrix]" = OrderedDict()  # least recently used first
_lock = threading.Lock()
_threads = ThreadPoolExecutor(4, thread_name_prefix="matrix")  # they compare vectors and never use the database


def blocks_of(collection: Collection, namespace: str, among: Keys | None = None) -> Iterable[Block]:
    """Return the current vectors, at least those of `among`: from memory, or in blocks read one after another.

    Raise Collection.DoesNotExist.
    """
    assert collection.dimension
    if not connection.in_atomic_block:  # the transaction may be rolled back, so its view is not kept
        # A primary key may be reused by a new collection, so the time of creation is part of the key.
        key = (collection.pk, collection.created_at, namespace)
        with _lock:
            matrix = _matrices.setdefault(key, Matrix(collection.dimension))
            _matrices.move_to_end(key)
        blocks = matrix.follow(collection, namespace, make_room)
        if blocks is not None:
            return blocks
    return read_blocks(collection, namespace, among)


def make_room(matrix: Matrix) -> bool:
    """Evict other matrices until this one fits into the memory for vectors. Return False if it cannot fit."""
    limit = settings.VECTOR_MEMORY_BYTES
    if matrix.bytes > limit:
        return False
    with _lock:
        for key, other in list(_matrices.items()):
            if sum(held.bytes for held in _matrices.values()) > limit and other is not matrix:
                del _matrices[key]
    return True


def read_blocks(collection: Collection, namespace: str, among: Keys | None) -> Iterator[Block]:
    """Yield the vectors from the database, so that memory is only needed for one page."""
    table = LocalVector.objects.filter(collection=collection, namespace=namespace)
    if among is None:
        parts = [table]
    else:
        parts = [
            table.filter(pk__in=part.tolist())
            for part in np.split(among, range(KEYS_AT_ONCE, len(among), KEYS_AT_ONCE))
        ]
    for part in parts:
        for keys, blobs in pages_of(part):
            yield empty_block(len(keys), collection.dimension or 0).extended(keys, blobs)


def pages_of(rows: "QuerySet[LocalVector]") -> Iterator[tuple[Sequence[int], Sequence[Blob]]]:
    """Yield keys and vectors in ascending order of the keys."""
    last = 0
    while page := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", "values")[:READ_AT_ONCE]):
        keys, blobs = zip(*page, strict=True)
        yield keys, blobs
        last = keys[-1]


def begin(
    collection: Collection, namespace: str, values: Floats, limit: int, among: Sequence[int] | None
) -> Callable[[], list[tuple[int, float]]]:
    """Begin a search and return a function that waits for its result.

    The result is (primary key, cosine) of at most `limit` vectors, nearest first; only of `among`, if given. Threads
    compare the blocks, so that the database can search for words at the same time.
    """
    wanted = None if among is None else np.sort(np.asarray(among, np.int64))
    blocks = blocks_of(collection, namespace, wanted)
    if isinstance(blocks, Sequence) and len(blocks) > 1:
        parts = [_threads.submit(best_in, block, values, limit, wanted) for block in blocks]
        return lambda: nearest((part.result() for part in parts), limit)
    return lambda: nearest((best_in(block, values, limit, wanted) for block in blocks), limit)


def best_in(block: Block, values: Floats, limit: int, wanted: Keys | None) -> tuple[Keys, Floats]:
    """Return the keys and cosines of at most `limit` vectors of a block, in any order."""
    keys, scores = block.scores(values, wanted)
    if len(keys) > limit:
        best = np.argpartition(scores, -limit)[-limit:]
        keys, scores = keys[best], scores[best]
    kept = scores > -np.inf
    return keys[kept], scores[kept]


def nearest(parts: Iterable[tuple[Keys, Floats]], limit: int) -> list[tuple[int, float]]:
    best_keys, best_scores = np.empty(0, np.int64), np.empty(0, np.float32)
    for keys, scores in parts:
        best_keys, best_scores = np.append(best_keys, keys), np.append(best_scores, scores)
        if len(best_keys) > limit:
            best = np.argpartition(best_scores, -limit)[-limit:]
            best_keys, best_scores = best_keys[best], best_scores[best]
    order = np.lexsort((best_keys, -best_scores))
    return list(zip(best_keys[order].tolist(), best_scores[order].tolist(), strict=True))


def cosines(collection: Collection, namespace: str, values: Floats, keys: Sequence[int]) -> dict[int, float]:
    """Return the cosines of the vectors with these primary keys, as far as they exist."""
    return dict(begin(collection, namespace, values, len(keys), keys)()) if keys else {}
