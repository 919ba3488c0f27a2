"""The process in which an upload is read. It is not started by manage.py, so it sets Django up by itself."""

import logging
import os
import resource
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import django
from django.apps import apps

AT_ONCE = 100  # documents


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one upload: seconds of computing and in all, bytes of address space, characters of all chunks."""

    cpu_seconds: int = 60
    seconds: int = 300
    memory: int = 1024**3
    characters: int = 50_000_000


def send_documents(
    sender: "Connection[Any, Any]", kind: str, name: str, data: bytes, destination: Any, limits: Limits
) -> None:
    """Lists of documents, and at the end an empty one, or a text that says why there are no more."""
    from vectorstores.ingestion.chunking import DEFAULT_CHUNKING
    from vectorstores.ingestion.documents import NewDocument
    from vectorstores.ingestion.pipeline import documents_from_rows
    from vectorstores.ingestion.rows import Refused
    from vectorstores.sources.uploaded import uploaded_rows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    os.nice(5)
    logging.disable()  # pypdf has much to say of a bad file
    batch: list[NewDocument | Refused] = []
    characters = 0
    for found in documents_from_rows(uploaded_rows(kind, name, data), destination, DEFAULT_CHUNKING):
        if isinstance(found, NewDocument):
            characters += sum(len(chunk.text) for chunk in found.chunks)
        if characters > limits.characters:
            sender.send(f"It holds more than {limits.characters} characters of text.")
            return
        batch.append(found)
        if len(batch) == AT_ONCE:
            sender.send(batch)
            batch = []
    if batch:
        sender.send(batch)
    sender.send([])


if not apps.apps_ready:  # last, for what it loads wants the function above
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "puffer.settings")
    django.setup()
