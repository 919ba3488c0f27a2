"""Vectors and documents for tests of all stores, and what their queries find."""

import numpy as np

from tests.support.stores.place import DIMENSION
from vectorstores.base import Query, Vector


def vector(vector_id, values=(1.0, 0.0, 0.0, 0.0), text="text", *, parent="", index=0, total=1, **metadata):
    chunk_fields = {
        "parent_vector_id": parent or vector_id,
        "vector_id": vector_id,
        "chunk_index": index,
        "total_chunks": total,
        "char_start": 0,
        "char_end": len(text),
        "source": "text_entry_global_form",
    }
    return Vector(vector_id, np.array(values, np.float32), text, metadata | chunk_fields)


def scan_all(place, target, namespace=""):
    return {vector.id: vector for vector in place.store.scan(target, namespace)}


def search(place, target, values=(1.0, 0.0, 0.0, 0.0), top_k=10, namespace="", **condition):
    return place.store.query(target, Query(np.array(values, np.float32), top_k, filter=condition), namespace)


def ids_of(matches):
    return [match.id for match in matches]


def random_vectors(count, dimension=DIMENSION):
    values = np.random.default_rng(7).normal(size=(count, dimension)).astype(np.float32)
    return [vector(f"v{at}", values[at], f"text {at}", number=at) for at in range(count)]
