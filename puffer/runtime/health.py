"""GET /health/live and /health/ready, for load balancers and supervisors.

They are answered without Django's middleware, so that no other request can delay them.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor

from puffer.runtime import startup
from puffer.runtime.database_threads import health_threads
from puffer.runtime.storage import is_storage_full

LIVE = "/health/live"  # costs nothing, so that no limit is needed
CHECK_SECONDS = 5.0  # after which a check counts as failed

logger = logging.getLogger(__name__)

_is_migrated = False  # once True it stays True, so that later checks skip the migrations


async def answer(path: str, send: Callable[[Mapping[str, Any]], Awaitable[None]], retry_after: str = "") -> None:
    """Answer a call of one of PATHS: 200, or 503 with the reason; 429 if the client asks too often."""
    problem = "asked too often" if retry_after else await PATHS[path]()
    status = 429 if retry_after else 503 if problem else 200
    body = json.dumps({"status": problem or "ok"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers.append((b"cache-control", b"no-store"))
    if retry_after:
        headers.append((b"retry-after", retry_after.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def live() -> str:
    """Return "", because the process is alive. A restart would not repair the database, so it is not checked."""
    return ""


async def ready() -> str:
    """Return why this server can't answer requests, or "". Wait while it loads what they need."""
    while startup.delays_readiness():  # noqa: ASYNC110  a thread ends it, not this loop
        await asyncio.sleep(0.05)
    health_threads.assign_one()
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await sync_to_async(problem)()
    except (DatabaseError, InterfaceError, TimeoutError) as error:
        logger.error("The database does not answer: %s", str(error) or "no answer in time")
        return "the database does not answer"


def problem() -> str:
    """Return what is wrong with the database, or "". Raise DatabaseError if it does not answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if missing_migration():
        return "the database lacks migrations"
    return "the disk of the database is full" if is_storage_full() else ""


def missing_migration() -> str:
    """Return the first migration that the database lacks, or ""."""
    global _is_migrated
    if _is_migrated:
        return ""
    executor = MigrationExecutor(connection)
    missing = [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    _is_migrated = not missing
    return str(missing[0]) if missing else ""


PATHS: dict[str, Callable[[], Awaitable[str]]] = {LIVE: live, "/health/ready": ready}
