"""The event loop that serves this worker's requests, for synchronous code that needs to run coroutines."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from puffer.request_id import request_id
from puffer.runtime.database_threads import api_threads

Result = TypeVar("Result")
AT_ONCE = 100_000  # characters that may be read on the event loop, which takes about a millisecond

_server: asyncio.AbstractEventLoop | None = None


def set_server_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    global _server
    _server = loop


def server_runs() -> bool:
    """Return whether this process serves requests; tests and commands do not."""
    return _server is not None


async def in_thread_if_large(characters: int, read: Callable[[], Result]) -> Result:
    """Call a function that reads so many characters: in a thread if other requests would have to wait for it."""
    return await asyncio.to_thread(read) if characters > AT_ONCE else read()


def run_on_server_loop(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine on the server's loop and return its result to a synchronous view.

    It shares the connections of the API's calls. It runs in a context of its own, because what it starts may outlive
    this request and must not look for the view's thread.
    """
    assert _server is not None
    current_request_id = request_id.get()

    async def in_own_context() -> Result:
        request_id.set(current_request_id)
        api_threads.assign_one()
        return await work()

    return Context().run(asyncio.run_coroutine_threadsafe, in_own_context(), _server).result()
