"""The API's path from the socket to the view and back.

Django's own ASGI handler hops to a thread several times per request (signals, rendering, closing) and runs every
middleware of the admin; on a call that waits for a provider anyway that is the greater part of our own work. This one
does what the API needs: read the body within its limit, name the request, route, await the view, send the answer.

The price is that Django's request signals, which look after database connections, are not sent. So the threads that
the async ORM uses are ours, few and long-lived, and each looks after its own connections: see DatabaseThread.
"""

import asyncio
import io
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections, connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import Resolver404, resolve

from puffer.api.errors import ApiError, BodyTooLarge
from puffer.api.renderers import JSONRenderer
from puffer.request_id import HEADER, take_request_id

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

logger = logging.getLogger("puffer.requests")

DATABASE_THREADS = 4  # each holds one connection
IDLE_BEFORE_CHECK = 1.0  # seconds after which a connection is asked whether it still lives


class ClientLeft(Exception):
    pass


class DatabaseThread(ThreadPoolExecutor):
    """One thread for the async ORM, which never uses a connection that is broken, outdated or gone."""

    def __init__(self, number: int) -> None:
        super().__init__(max_workers=1, thread_name_prefix=f"database-{number}")
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


class ApiHandler:
    """An ASGI application for everything below /wp-json/."""

    def __init__(self) -> None:
        self.get_response = CorsMiddleware(self.view_response)
        # The async ORM runs in the thread that belongs to the context it is called from. A request gets one of these
        # contexts instead of a new one: threads and connections stay, and a request without a query makes nothing.
        contexts = [ThreadSensitiveContext() for _ in range(DATABASE_THREADS)]
        for number, context in enumerate(contexts):
            SyncToAsync.context_to_thread_executor[context] = DatabaseThread(number)
        self.contexts = itertools.cycle(contexts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        SyncToAsync.thread_sensitive_context.set(next(self.contexts))
        try:
            body, too_large = await read_body(receive)
        except ClientLeft:
            return
        request = ASGIRequest(scope, io.BytesIO(body))
        request_id = take_request_id(request)
        leaving = asyncio.create_task(cancel_when_client_leaves(receive, asyncio.current_task()))
        try:
            response = await self.answer(request, too_large)
        except asyncio.CancelledError:
            if not leaving.done():
                raise  # the server is shutting down
            logger.info("client left", extra=summary(request, 499, started))
            return
        finally:
            leaving.cancel()
        response[HEADER] = request_id
        await send_response(response, send, head=request.method == "HEAD")
        logger.info("answered", extra=summary(request, response.status_code, started))

    async def answer(self, request: HttpRequest, too_large: bool) -> HttpResponseBase:
        try:
            if too_large:
                raise BodyTooLarge(f"The request body is larger than {settings.MAX_REQUEST_BYTES} bytes.")
            response: HttpResponseBase = await self.get_response(request)  # type: ignore[misc]
            return response
        except ApiError as error:
            return error_response(error)
        except Exception:
            logger.exception("a request failed outside its view")
            return error_response(ApiError())

    async def view_response(self, request: HttpRequest) -> HttpResponseBase:
        try:
            match = resolve(request.path_info)
        except Resolver404:
            match = resolve("/wp-json/")
        request.resolver_match = match
        return await match.func(request, *match.args, **match.kwargs)


async def read_body(receive: Receive) -> tuple[bytes, bool]:
    """The body, and whether it is over MAX_REQUEST_BYTES. An oversized one is read to its end but not kept."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        size += len(chunk := message.get("body", b""))
        if size > settings.MAX_REQUEST_BYTES:
            chunks.clear()
            if size > 10 * settings.MAX_REQUEST_BYTES:
                return b"", True  # enough read for politeness
        else:
            chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks), size > settings.MAX_REQUEST_BYTES


async def cancel_when_client_leaves(receive: Receive, request_task: "asyncio.Task[Any] | None") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if request_task:
        request_task.cancel()


async def send_response(response: HttpResponseBase, send: Send, *, head: bool) -> None:
    assert isinstance(response, HttpResponse)
    body = response.content
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def error_response(error: ApiError) -> HttpResponse:
    response = HttpResponse(
        JSONRenderer().render(error.body()), status=error.status, content_type="application/json; charset=UTF-8"
    )
    for name, value in error.headers.items():
        response[name] = value
    return response


def summary(request: HttpRequest, status: int, started: float) -> dict[str, Any]:
    """What the log line of a request tells. The path without its query, where a key may be."""
    return {
        "method": request.method,
        "path": request.path[:200],
        "status": status,
        "milliseconds": round((time.perf_counter() - started) * 1000, 1),
    }
