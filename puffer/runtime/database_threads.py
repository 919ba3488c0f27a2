"""The threads in which requests use the database: few, long-lived, each with its own connection.

The async ORM and sync views run in the thread that belongs to the context they are called from. Django makes such a
context, with a thread and a connection, for every request and drops them afterwards. Ours are made once and handed out
in turn, so connections last, their number is bounded, and a request without a query makes nothing at all.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import close_old_connections, connections

IDLE_BEFORE_CHECK = 1.0  # seconds after which a connection is asked whether it still lives


class DatabaseThread(ThreadPoolExecutor):
    """One thread, which never uses a connection that is broken, outdated or gone."""

    def __init__(self, name: str) -> None:
        super().__init__(max_workers=1, thread_name_prefix=name)
        self.last_used = 0.0

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        return super().submit(self.run, work, *args, **options)

    def run(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        # Between two pieces of work no transaction is open: an atomic block can't be held across an await.
        if time.monotonic() - self.last_used > IDLE_BEFORE_CHECK:
            for connection in connections.all(initialized_only=True):
                setattr(connection, "health_check_done", False)  # noqa: B010  the stubs lack it
        close_old_connections()
        try:
            return work(*args, **options)
        finally:
            self.last_used = time.monotonic()


class DatabaseThreads:
    def __init__(self, name: str, count: int) -> None:
        contexts = [ThreadSensitiveContext() for _ in range(count)]
        for number, context in enumerate(contexts):
            SyncToAsync.context_to_thread_executor[context] = DatabaseThread(f"{name}-{number}")
        self.contexts = itertools.cycle(contexts)

    def assign_one(self) -> None:
        """Let what follows in this task, and in tasks that it starts, use the next of the threads."""
        SyncToAsync.thread_sensitive_context.set(next(self.contexts))


api_threads = DatabaseThreads("api", 4)
page_threads = DatabaseThreads("pages", 8)  # others than the API's: a slow page must not make a call wait
health_threads = DatabaseThreads("health", 1)  # nor make us look ill
