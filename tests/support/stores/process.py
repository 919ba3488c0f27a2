"""A process that uses the local store: it reads commands and prints results, one JSON line each (test_processes.py)."""

import json
import sys
from collections.abc import Callable
from typing import Any

import django

django.setup()

import numpy as np  # noqa: E402

from vectorstores.base import Query, StoreSettings, Vector  # noqa: E402
from vectorstores.models import Collection  # noqa: E402
from vectorstores.stores.local.driver import Local  # noqa: E402

DIMENSION = 8
store = Local(StoreSettings())


def create(target: str) -> None:
    store.create(target, DIMENSION)


def document(parent: str, version: str, chunks: int) -> list[Vector]:
    """Return the chunks of a document; the text of each names the version and the number of chunks."""
    return [
        Vector(
            f"{parent}_chunk_{index}",
            np.eye(DIMENSION, dtype=np.float32)[index % DIMENSION] + 0.5,
            f"{parent} {version} {chunks}",
            {"parent_vector_id": parent, "chunk_index": index, "total_chunks": chunks},
        )
        for index in range(chunks)
    ]


def replace(target: str, parent: str, version: str, chunks: int) -> None:
    store.replace(target, document(parent, version, chunks))


def replace_often(target: str, parent: str, version: str, rounds: int) -> None:
    for number in range(rounds):
        store.replace(target, document(parent, f"{version}.{number}", 1 + number % 5))


def delete(target: str, parent: str) -> None:
    store.delete_parents(target, [parent])


def drop(target: str) -> None:
    Collection.objects.filter(store="local", name=target).delete()


def texts(target: str, question: str = "") -> list[str]:
    """Return the texts of all passages that a query finds."""
    matches = store.query(target, Query(np.ones(DIMENSION, np.float32), 100, question))
    return sorted(match.text for match in matches)


def scanned(target: str) -> list[str]:
    return sorted(vector.text for vector in store.scan(target))


def texts_until_the_last_round(target: str, rounds: int) -> list[list[str]]:
    """Return what each query finds until it finds a document of the last round of replace_often()."""
    seen = [texts(target)]
    while not any(f".{rounds - 1} " in text for text in seen[-1]):
        seen.append(texts(target))
    return seen


def index_of(target: str) -> str:
    return Collection.objects.get(name=target).index


COMMANDS: dict[str, Callable[..., Any]] = {
    command.__name__: command
    for command in (
        create, replace, replace_often, delete, drop, texts, scanned, texts_until_the_last_round, index_of,
    )
}  # fmt: skip

if __name__ == "__main__":
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(COMMANDS[name](*arguments)), flush=True)
