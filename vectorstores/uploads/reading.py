"""Read the documents of an upload in the sandbox."""

import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import IO

from vectorstores.ingestion.chunking import DEFAULT_CHUNKING
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.pipeline import documents_from_rows
from vectorstores.ingestion.rows import Note, Refused
from vectorstores.sandbox.process import Limits
from vectorstores.sandbox.sandbox import LIMITS, read_in_sandbox, write_answer
from vectorstores.sources.uploaded import uploaded_rows


def read_upload(
    spool: IO[bytes],
    kind: str,
    name: str,
    data: bytes,
    destination: Destination,
    stop: threading.Event,
    limits: Limits = LIMITS,
    options: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Write the documents and refusals to the spool for read_spool(), and return the number of chunks.

    Repeated documents are written once. Raise Unreadable, also when `stop` is set.
    """
    seen: set[tuple[str, str]] = set()
    chunks = 0
    arguments = (kind, name, data, dict(options), destination)
    for found in read_in_sandbox(documents_of_upload, *arguments, stop=stop, limits=limits):
        if isinstance(found, NewDocument):
            if (found.parent_id, found.content_hash) in seen:
                continue
            seen.add((found.parent_id, found.content_hash))
            chunks += len(found.chunks)
        write_answer(spool, found)
    return chunks


def documents_of_upload(
    kind: str, name: str, data: bytes, options: Mapping[str, str], destination: Destination
) -> Iterator[NewDocument | Refused | Note]:
    """Yield the documents of an upload. Called in the sandbox."""
    return documents_from_rows(uploaded_rows(kind, name, data, options), destination, DEFAULT_CHUNKING)
