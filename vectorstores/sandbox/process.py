"""The process in which untrusted content is read. manage.py does not start it, so it sets up Django itself."""

import logging
import os
import resource
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import django
from django.apps import apps

BATCH, BATCH_CHARACTERS = 100, 1_000_000  # answers, and characters of them, that are sent together
PROBLEM = b"!"  # begins a message with a reason; JSON does not begin so


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for reading one upload, page or sitemap."""

    cpu_seconds: int = 60
    seconds: int = 300
    memory: int = 1024**3  # bytes of address space
    characters: int = 50_000_000  # of all chunks


def send_answers(
    sender: "Connection[Any, Any]", read: Callable[..., Iterable[Any]], arguments: Sequence[Any], limits: Limits
) -> None:
    """Send what `read` yields in lists as JSON, then an empty list, or PROBLEM with the reason why reading ended."""
    from vectorstores.extraction import Unreadable
    from vectorstores.ingestion.documents import NewDocument
    from vectorstores.sandbox.answer import Answer, to_json
    from vectorstores.sandbox.no_network import block_network

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C lets the worker finish the upload
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    os.nice(5)
    block_network()
    logging.disable()  # readers log a lot about bad files
    batch: list[Answer] = []
    characters = unsent = 0
    try:
        for found in read(*arguments):
            if isinstance(found, NewDocument):
                length = sum(len(chunk.text) for chunk in found.chunks)
                characters, unsent = characters + length, unsent + length
            if characters > limits.characters:
                raise Unreadable(f"It contains more than {limits.characters} characters of text.")
            batch.append(found)
            if len(batch) == BATCH or unsent > BATCH_CHARACTERS:
                sender.send_bytes(to_json(batch))
                batch, unsent = [], 0
    except Unreadable as error:
        if batch:
            sender.send_bytes(to_json(batch))
        sender.send_bytes(PROBLEM + str(error).encode(errors="replace"))
        return
    if batch:
        sender.send_bytes(to_json(batch))
    sender.send_bytes(to_json([]))


if not apps.apps_ready:  # at the end, because the apps import the function above
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "puffer.settings")
    django.setup()
