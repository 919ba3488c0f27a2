"""A record of deleted vectors, so that processes remove them from memory without comparing whole collections."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vectorstores.models import Collection, VectorDeletion

MAX_RECORDS = 10_000  # of a collection; a process that has missed more compares all keys

Keys = NDArray[np.int64]


def record(collection: Collection, keys: Sequence[int]) -> None:
    """Record that this transaction, which has locked the collection, deletes vectors with these primary keys."""
    number = collection.deletions + 1
    records = VectorDeletion.objects.filter(collection=collection)
    records.create(collection=collection, number=number, keys=np.asarray(keys, "<i8").tobytes())
    records.filter(number__lte=number - MAX_RECORDS).delete()
    Collection.objects.filter(pk=collection.pk).update(deletions=number)


def deleted_since(collection: Collection, number: int) -> Keys | None:
    """Return the keys of all deletions after `number` up to the collection's latest; None if a record is missing."""
    wanted = VectorDeletion.objects.filter(collection=collection, number__gt=number, number__lte=collection.deletions)
    records = list(wanted.values_list("keys", flat=True))
    if len(records) < collection.deletions - number:
        return None
    return np.frombuffer(b"".join(records), "<i8").astype(np.int64)
