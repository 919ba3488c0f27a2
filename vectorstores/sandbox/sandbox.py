"""Read untrusted content in a sandbox: a separate process with limited time and memory and without network.

An upload or a page may be crafted to break its reader: a few kilobytes of PDF can require gigabytes or days. The
process ends with each upload or page, and the worker receives only documents and links from it, as JSON.
"""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from vectorstores.extraction import Unreadable
from vectorstores.sandbox.answer import Answer, from_json, to_json
from vectorstores.sandbox.process import PROBLEM, Limits, send_answers

TOO_SLOW = "It takes too long to read."
TOO_LARGE = "It takes too much memory to read, or it crashes the reader."
POLL = 0.5  # seconds
LIMITS = Limits()

# A fork server imports the reader once and forks for every upload. A fork of the worker itself would copy its threads.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([send_answers.__module__])


def read_in_sandbox(
    read: Callable[..., Iterable[Answer]], *arguments: Any, stop: threading.Event, limits: Limits = LIMITS
) -> Iterator[Answer]:
    """Yield what `read(*arguments)` yields in the sandbox. `read` is a function at the top level of a module.

    Raise Unreadable, also when `stop` is set.
    """
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=send_answers, args=(sender, read, arguments, limits), daemon=True)
    deadline = time.monotonic() + limits.seconds
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
                    return
                yield from batch
        except EOFError:
            process.join()
            raise Unreadable(TOO_SLOW if process.exitcode == -signal.SIGXCPU else TOO_LARGE) from None
        finally:
            process.kill()
            process.join()
            process.close()


# A file of answers, because the documents of an upload may not fit into the memory


def write_answer(spool: IO[bytes], answer: Answer) -> None:
    spool.write(to_json([answer]) + b"\n")


def read_spool(spool: IO[bytes]) -> Iterator[Any]:
    """Yield the answers that were written to the spool."""
    spool.seek(0)
    for line in spool:
        yield from from_json(line)
