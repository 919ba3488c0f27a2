"""The process in which an upload is read. It is not started by manage.py, so it sets Django up by itself."""

import logging
import os
import resource
from multiprocessing.connection import Connection
from typing import Any

import django
from django.apps import apps

CPU_SECONDS = 60
MEMORY = 1024**3  # bytes of address space
MAX_CHARACTERS = 50_000_000  # of all chunks
TOO_LONG = f"It holds more than {MAX_CHARACTERS // 1_000_000} million characters of text."
AT_ONCE = 100  # documents


def send_documents(sender: "Connection[Any, Any]", kind: str, name: str, data: bytes, destination: Any) -> None:
    """Lists of documents, and at the end an empty one, or a text that says why there are no more."""
    from vectorstores.documents import NewDocument
    from vectorstores.importing import Chunking, documents_in
    from vectorstores.sources.rows import Refused
    from vectorstores.sources.uploaded import uploaded_rows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(5)
    logging.disable()  # pypdf has much to say of a bad file
    batch: list[NewDocument | Refused] = []
    characters = 0
    for found in documents_in(uploaded_rows(kind, name, data), destination, Chunking()):
        if isinstance(found, NewDocument):
            characters += sum(len(chunk.text) for chunk in found.chunks)
        if characters > MAX_CHARACTERS:
            sender.send(TOO_LONG)
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
