"""Run asynchronous work that calls providers from synchronous code: admin views, workers and commands."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.sync import async_to_sync

from logs.usage import flush_usage
from providers.registry import close_clients
from puffer.runtime import run_on_server_loop, server_runs

Result = TypeVar("Result")


def run_async(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Return the result of `work`, run on the server's event loop, or on a temporary one where no server runs."""
    return run_on_server_loop(work) if server_runs() else async_to_sync(run_alone)(work)


async def run_alone(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run `work`, then write its usage records and close its provider clients, because its event loop ends here."""
    try:
        return await work()
    finally:
        await flush_usage()
        await close_clients()
