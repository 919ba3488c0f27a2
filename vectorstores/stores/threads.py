"""The threads in which asynchronous code calls the stores, whose methods block."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from vectorstores.base import VectorStore

THREADS = 16  # a store that hangs occupies one for up to a minute

Params = ParamSpec("Params")
Result = TypeVar("Result")

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="vectorstores")


async def call_store(
    store: VectorStore, method: Callable[Params, Result], *args: Params.args, **options: Params.kwargs
) -> Result:
    """Call a method of the store in a thread: `await call_store(store, store.query, target, query)`."""
    if store.in_database:
        in_database_thread: Any = sync_to_async(method)
        return await in_database_thread(*args, **options)
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(method, *args, **options))
