"""Read an upload in a sandbox: a separate process with limited time and memory and without network.

An upload may be crafted to break its reader: a few kilobytes of PDF can require gigabytes or days. The process ends
with each upload, and the worker receives only documents from it, as JSON.
"""

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import IO

from vectorstores.extraction import Unreadable
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument
from vectorstores.ingestion.rows import Note, Refused
from vectorstores.uploads.answer import from_json, to_json
from vectorstores.uploads.sandbox_process import PROBLEM, Limits, send_documents

TOO_SLOW = "It takes too long to read."
TOO_LARGE = "It takes too much memory to read, or it crashes the reader."
POLL = 0.5  # seconds
LIMITS = Limits()

# A fork server imports the reader once and forks for every upload. A fork of the worker itself would copy its threads.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([send_documents.__module__])


def read_in_sandbox(
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
    receiver, sender = processes.Pipe(duplex=False)
    arguments = (sender, kind, name, data, dict(options), destination, limits)
    process = processes.Process(target=send_documents, args=arguments, daemon=True)
    deadline = time.monotonic() + limits.seconds
    seen: set[tuple[str, str]] = set()
    chunks = 0
    with receiver:
        process.start()
        sender.close()
        try:
            while True:
                has_answer = False
                while not has_answer:
                    has_answer = receiver.poll(POLL)
                    if stop.is_set() or time.monotonic() > deadline:
                        raise Unreadable(TOO_SLOW)
                answer = receiver.recv_bytes(limits.memory)
                if answer.startswith(PROBLEM):
                    raise Unreadable(answer.removeprefix(PROBLEM).decode(errors="replace"))
                batch = from_json(answer)
                if not batch:
                    return chunks
                for found in batch:
                    if isinstance(found, NewDocument):
                        if (found.parent_id, found.content_hash) in seen:
                            continue
                        seen.add((found.parent_id, found.content_hash))
                        chunks += len(found.chunks)
                    spool.write(to_json([found]) + b"\n")
        except EOFError:
            process.join()
            raise Unreadable(TOO_SLOW if process.exitcode == -signal.SIGXCPU else TOO_LARGE) from None
        finally:
            process.kill()
            process.join()
            process.close()


def read_spool(spool: IO[bytes]) -> Iterator[NewDocument | Refused | Note]:
    spool.seek(0)
    for line in spool:
        yield from from_json(line)
