"""The vectors of the local store in memory: one matrix per collection and namespace.

The matrix follows its table, so that a query is one product of matrix and vector. A vector of 384 numbers takes 1.5 KB,
and 100,000 of them 154 MB in each worker that searches them.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from vectorstores.base import Floats
from vectorstores.models import Collection, LocalVector

MAX_BYTES = 1024**3  # of all matrices; above it the least recently used are evicted, but never the one in use
READ_AT_ONCE = 2000  # rows
MAX_DELETED = 0.25  # of the rows of a matrix, before it is compacted

Keys = NDArray[np.int64]
Blob = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable view of a matrix, for one query. `deleted` marks rows that are deleted but still in place."""

    version: int
    deletions: int
    keys: Keys  # primary keys, ascending
    rows: Floats  # len(keys) x dimension, each of length 1
    deleted: NDArray[np.bool_]

    def positions_of(self, keys: Sequence[int]) -> NDArray[np.int64]:
        """Return the positions of the keys that exist, in ascending order of the keys."""
        wanted = np.sort(np.asarray(keys, np.int64))
        at = np.searchsorted(self.keys, wanted)
        inside = at < len(self.keys)
        at, wanted = at[inside], wanted[inside]
        return at[(self.keys[at] == wanted) & ~self.deleted[at]]


class Matrix:
    """The vectors of a collection and namespace, brought up to date by follow()."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.lock = threading.Lock()  # one thread reads new rows, the others wait for it
        self.reset()

    def reset(self) -> None:
        self.keys: Keys = np.empty(0, np.int64)
        self.rows: Floats = np.empty((0, self.dimension), np.float32)
        self.now = Snapshot(-1, -1, self.keys, self.rows, np.empty(0, np.bool_))

    def follow(self, collection: Collection, namespace: str) -> Snapshot:
        """Return a snapshot of the collection's version or a newer one. Raise Collection.DoesNotExist."""
        if self.now.version == collection.version:
            return self.now
        with self.lock:
            collection.refresh_from_db(fields=["version", "deletions"])
            if collection.version < self.now.version:  # an older database was restored
                self.reset()
            if collection.version != self.now.version:
                self.now = self.read(collection, namespace)
            return self.now

    def read(self, collection: Collection, namespace: str) -> Snapshot:
        """Return a snapshot with the new rows of the table and without its deleted rows.

        Rows are never changed, and new rows have higher keys than all before: see Local.lock(). Rows committed during
        the read may already be included. Deletions are read first, so a document replaced in between appears twice,
        which Local.search() detects, instead of not at all.
        """
        known = self.now
        table = LocalVector.objects.filter(collection=collection, namespace=namespace).order_by("pk")
        deleted = known.deleted
        if len(known.keys) and known.deletions != collection.deletions:
            existing = table.values_list("pk", flat=True).iterator(READ_AT_ONCE)
            deleted = ~np.isin(known.keys, np.fromiter(existing, np.int64), assume_unique=True)
        size = len(known.keys)
        newest = int(known.keys[-1]) if size else 0
        batch: list[tuple[int, Blob]] = []
        for row in table.filter(pk__gt=newest).values_list("pk", "values").iterator(READ_AT_ONCE):
            batch.append(row)
            if len(batch) == READ_AT_ONCE:
                size = self.append(size, batch)
                batch = []
        size = self.append(size, batch)
        keys, rows = self.keys[:size], self.rows[:size]
        deleted = np.concatenate([deleted, np.zeros(size - len(deleted), np.bool_)])
        if size and deleted.mean() > MAX_DELETED:
            self.keys = keys = keys[~deleted]
            self.rows = rows = rows[~deleted]
            deleted = np.zeros(len(keys), np.bool_)
        return Snapshot(collection.version, collection.deletions, keys, rows, deleted)

    def append(self, size: int, batch: Sequence[tuple[int, Blob]]) -> int:
        """Append rows and return the new size. If there is room, do it in place, behind the rows that snapshots see."""
        end = size + len(batch)
        if end > len(self.keys):
            room = max(end, len(self.keys) * 3 // 2)
            keys, rows = np.empty(room, np.int64), np.empty((room, self.dimension), np.float32)
            keys[:size], rows[:size] = self.keys[:size], self.rows[:size]
            self.keys, self.rows = keys, rows
        if batch:
            self.keys[size:end] = [key for key, _ in batch]
            floats = np.frombuffer(b"".join(blob for _, blob in batch), "<f4")
            self.rows[size:end] = floats.reshape(len(batch), self.dimension)
        return end


_matrices: "OrderedDict[tuple[object, ...], Matrix]" = OrderedDict()
_lock = threading.Lock()


def snapshot_of(collection: Collection, namespace: str) -> Snapshot:
    """Return the current snapshot of the collection's matrix. Raise Collection.DoesNotExist."""
    assert collection.dimension
    if connection.in_atomic_block:  # the transaction may be rolled back, so its view is not kept
        return Matrix(collection.dimension).follow(collection, namespace)
    # A primary key may be reused by a new collection, so the time of creation is part of the key.
    key = (collection.pk, collection.created_at, namespace)
    with _lock:
        matrix = _matrices.setdefault(key, Matrix(collection.dimension))
        _matrices.move_to_end(key)
    snapshot = matrix.follow(collection, namespace)
    with _lock:
        while len(_matrices) > 1 and sum(kept.rows.nbytes for kept in _matrices.values()) > MAX_BYTES:
            _matrices.popitem(last=False)
    return snapshot


def nearest(
    collection: Collection, namespace: str, values: Floats, limit: int, among: Sequence[int] | None
) -> list[tuple[int, float]]:
    """Return (primary key, cosine) of at most `limit` vectors, nearest first; only of `among`, if given."""
    snapshot = snapshot_of(collection, namespace)
    scores = snapshot.rows @ values
    if among is None:
        scores[snapshot.deleted] = -np.inf
        at = np.arange(len(scores))
    else:
        at = snapshot.positions_of(among)
        scores = scores[at]
    best = np.argpartition(scores, -limit)[-limit:] if limit < len(scores) else np.arange(len(scores))
    best = best[np.argsort(-scores[best], kind="stable")]
    best = best[scores[best] > -np.inf]
    return list(zip(snapshot.keys[at[best]].tolist(), scores[best].tolist(), strict=True))


def cosines(collection: Collection, namespace: str, values: Floats, keys: Sequence[int]) -> dict[int, float]:
    """Return the cosines of the vectors with these primary keys, as far as they exist."""
    snapshot = snapshot_of(collection, namespace)
    at = snapshot.positions_of(keys)
    return dict(zip(snapshot.keys[at].tolist(), (snapshot.rows[at] @ values).tolist(), strict=True))
