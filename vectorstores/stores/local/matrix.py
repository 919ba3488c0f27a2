"""The vectors of the local store in this process's memory: one matrix per collection and namespace, which follows its
table, so that a query is one product of matrix and vector.

A vector of 384 numbers takes 1.5 KB, 100,000 of them 154 MB in each worker that is asked about them.
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

MAX_BYTES = 1024**3  # of all matrices; beyond it the least recently used ones are let go, never the one in use
READ_AT_ONCE = 2000  # rows
MOST_GONE = 0.25  # of a matrix's rows, before it is rid of them

Keys = NDArray[np.int64]
Blob = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a query works on, whatever is written meanwhile. `keys` are primary keys, ascending; `gone` marks rows that
    are deleted but still in place."""

    version: int
    deletions: int
    keys: Keys
    rows: Floats  # len(keys) x dimension, of length 1
    gone: NDArray[np.bool_]

    def positions_of(self, keys: Sequence[int]) -> NDArray[np.int64]:
        """Of those that are there, in ascending order of the keys."""
        wanted = np.sort(np.asarray(keys, np.int64))
        at = np.searchsorted(self.keys, wanted)
        inside = at < len(self.keys)
        at, wanted = at[inside], wanted[inside]
        return at[(self.keys[at] == wanted) & ~self.gone[at]]


class Matrix:
    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.lock = threading.Lock()  # one thread reads what is new, others wait for it
        self.begin_anew()

    def begin_anew(self) -> None:
        self.keys: Keys = np.empty(0, np.int64)
        self.rows: Floats = np.empty((0, self.dimension), np.float32)
        self.now = Snapshot(-1, -1, self.keys, self.rows, np.empty(0, np.bool_))

    def follow(self, collection: Collection, namespace: str) -> Snapshot:
        """The table as of the collection's version, or newer. Raises Collection.DoesNotExist."""
        if self.now.version == collection.version:
            return self.now
        with self.lock:
            collection.refresh_from_db(fields=["version", "deletions"])
            if collection.version < self.now.version:  # somebody has put an older database in place
                self.begin_anew()
            if collection.version != self.now.version:
                self.now = self.read(collection, namespace)
            return self.now

    def read(self, collection: Collection, namespace: str) -> Snapshot:
        """What is known, without what is gone and with what is new.

        Rows are never changed, and new ones have higher keys than all before: see Local.lock(). What is committed while
        this reads may be in it already; it is found to be so when its version is read. It is looked for what is gone
        first: so a document that is replaced in between is there twice, which a query finds out, and not missing.
        """
        known = self.now
        table = LocalVector.objects.filter(collection=collection, namespace=namespace).order_by("pk")
        gone = known.gone
        if len(known.keys) and known.deletions != collection.deletions:
            there = table.values_list("pk", flat=True).iterator(READ_AT_ONCE)
            gone = ~np.isin(known.keys, np.fromiter(there, np.int64), assume_unique=True)
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
        gone = np.concatenate([gone, np.zeros(size - len(gone), np.bool_)])
        if size and gone.mean() > MOST_GONE:
            self.keys = keys = keys[~gone]
            self.rows = rows = rows[~gone]
            gone = np.zeros(len(keys), np.bool_)
        return Snapshot(collection.version, collection.deletions, keys, rows, gone)

    def append(self, size: int, batch: Sequence[tuple[int, Blob]]) -> int:
        """The new size. Rows go behind what snapshots look at, in place while there is room."""
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
    """Raises Collection.DoesNotExist."""
    assert collection.dimension
    if connection.in_atomic_block:  # what this transaction sees may never come true, so it is kept for nobody
        return Matrix(collection.dimension).follow(collection, namespace)
    # A collection that was made anew is another one, even if its key comes again.
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
    """(primary key, cosine) of at most `limit` vectors, the nearest first; only of those `among`, if given."""
    snapshot = snapshot_of(collection, namespace)
    scores = snapshot.rows @ values
    if among is None:
        scores[snapshot.gone] = -np.inf
        at = np.arange(len(scores))
    else:
        at = snapshot.positions_of(among)
        scores = scores[at]
    best = np.argpartition(scores, -limit)[-limit:] if limit < len(scores) else np.arange(len(scores))
    best = best[np.argsort(-scores[best], kind="stable")]
    best = best[scores[best] > -np.inf]
    return list(zip(snapshot.keys[at[best]].tolist(), scores[best].tolist(), strict=True))


def cosines(collection: Collection, namespace: str, values: Floats, keys: Sequence[int]) -> dict[int, float]:
    """Of the vectors with these primary keys, as far as they are there."""
    snapshot = snapshot_of(collection, namespace)
    at = snapshot.positions_of(keys)
    return dict(zip(snapshot.keys[at].tolist(), (snapshot.rows[at] @ values).tolist(), strict=True))
