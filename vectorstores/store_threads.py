"""The bounded threads in which async code calls the stores."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from vectorstores.base import VectorStore

THREADS = 16  # a store that hangs holds one for a minute

Params = ParamSpec("Params")
Result = TypeVar("Result")

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="vectorstores")


async def run(
    store: VectorStore, method: Callable[Params, Result], *args: Params.args, **options: Params.kwargs
) -> Result:
    """What `method` of the store gives: `await run(store, store.query, target, query)`."""
    if store.in_database:
        in_database_thread: Any = sync_to_async(method)
        return await in_database_thread(*args, **options)
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(method, *args, **options))
