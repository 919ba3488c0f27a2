"""Vectors in random directions, each a chunk of one document."""

import numpy as np

from vectorstores.base import Vector


def vectors(count: int, dimension: int, parent: str = "doc") -> list[Vector]:
    values = np.random.default_rng([count, len(parent)]).normal(size=(count, dimension)).astype(np.float32)
    return [
        Vector(f"{parent}-{at}", values[at], f"text {at}", {"parent_vector_id": parent, "number": at})
        for at in range(count)
    ]
