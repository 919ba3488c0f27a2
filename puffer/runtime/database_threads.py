"""The threads in which requests use the database: few, long-lived, each with its own connection.

The async ORM and sync views run in the thread of the context they are called from. Django creates a context with a
thread and a connection for every request. Here a fixed set is created once and assigned in turn, so connections are
reused, their number is bounded, and a request without a query creates nothing.
"""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.conf import settings
from django.db import OperationalError, close_old_connections, connections

IDLE_BEFORE_CHECK = 1.0  # seconds after which a connection is checked before its next use


class DatabaseThread(ThreadPoolExecutor):
    """One thread, which replaces a broken or outdated connection before it uses it.

    If it is `impatient`, work that had to wait for longer than DATABASE_TIMEOUT fails: otherwise the requests that
    queue up while the database stalls would be held for many times as long.
    """

    def __init__(self, name: str, *, impatient: bool) -> None:
        super().__init__(max_workers=1, thread_name_prefix=name)
        self.impatient = impatient
        self.last_used = 0.0

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        return super().submit(self.run, time.monotonic(), work, *args, **options)

    def run(self, submitted_at: float, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self.impatient and 0 < settings.DATABASE_TIMEOUT < time.monotonic() - submitted_at:
            raise OperationalError("no connection to the database was free in time")
        # No transaction is open between two calls, because an atomic block cannot span an await.
        if time.monotonic() - self.last_used > IDLE_BEFORE_CHECK:
            for connection in connections.all(initialized_only=True):
                setattr(connection, "health_check_done", False)  # noqa: B010  the stubs lack it
        close_old_connections()
        try:
            return work(*args, **options)
        finally:
            self.last_used = time.monotonic()


class DatabaseThreads:
    """A fixed number of threads, assigned to requests in turn."""

    def __init__(self, name: str, count: int, *, impatient: bool = False) -> None:
        contexts = [ThreadSensitiveContext() for _ in range(count)]
        for number, context in enumerate(contexts):
            SyncToAsync.context_to_thread_executor[context] = DatabaseThread(f"{name}-{number}", impatient=impatient)
        self.contexts = itertools.cycle(contexts)

    def assign_one(self) -> None:
        """Make this task, and tasks that it starts, use the next thread."""
        SyncToAsync.thread_sensitive_context.set(next(self.contexts))


api_threads = DatabaseThreads("api", 4, impatient=True)
admin_threads = DatabaseThreads("admin", 8)  # separate, so that a slow page does not delay API calls
public_threads = DatabaseThreads("public", 4)  # the widget's files and other pages for everybody
sign_in_threads = DatabaseThreads("sign-in", 2)  # as many passwords are hashed at once, which takes a processor each
health_threads = DatabaseThreads("health", 1)  # separate, so that a slow page does not fail a health check
