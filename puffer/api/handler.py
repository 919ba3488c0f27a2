"""The API's path from the socket to the view and back.

Django's ASGI handler switches to a thread several times per request (signals, rendering, closing) and runs all
middleware of the admin. For a call that waits for a provider, that is most of the server's work. This handler does only
what the API needs: read the body within its limit, assign a request id, route, await the view, send the response.

It sends no request signals, which Django uses to manage database connections: puffer/runtime/database_threads.py
manages them instead.
"""

import asyncio
import io
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils.module_loading import import_string

from puffer.api.errors import ApiError, BodyTooLarge, InvalidUrl, unexpected_error
from puffer.api.event_stream import EventStream
from puffer.api.renderers import JSONRenderer
from puffer.request_id import HEADER, take_request_id
from puffer.runtime.database_threads import api_threads

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

logger = logging.getLogger("puffer.requests")


class ClientLeft(Exception):
    """A connection that the client closed before it had sent its whole request."""


class ApiHandler:
    """The ASGI application for everything below /wp-json/."""

    def __init__(self) -> None:
        self.get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]] = self.view_response
        for path in reversed(settings.API_MIDDLEWARE):
            self.get_response = import_string(path)(self.get_response)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        api_threads.assign_one()
        try:
            body, too_large = await read_body(receive)
        except ClientLeft:
            return
        try:
            request = ASGIRequest(scope, io.BytesIO(body))
        except UnicodeDecodeError:  # raw bytes in the query string
            await send_response(error_response(InvalidUrl()), send, head=scope["method"] == "HEAD")
            return
        request_id = take_request_id(request)
        leaving = asyncio.create_task(cancel_when_client_leaves(receive, asyncio.current_task()))
        try:
            response = await self.answer(request, too_large)
            response[HEADER] = request_id
            if isinstance(response, EventStream):
                await send_stream(response, send)
        except asyncio.CancelledError:
            if not leaving.done():
                raise  # the server is shutting down
            logger.info("client left", extra=summary(request, 499, started))
            return
        finally:
            leaving.cancel()
        if isinstance(response, HttpResponse):
            await send_response(response, send, head=request.method == "HEAD")
        logger.info("answered", extra=summary(request, response.status_code, started))

    async def answer(self, request: HttpRequest, too_large: bool) -> HttpResponseBase:
        try:
            if too_large:
                raise BodyTooLarge(f"The request body is larger than {settings.MAX_REQUEST_BYTES} bytes.")
            return await self.get_response(request)
        except ApiError as error:
            return error_response(error)
        except Exception as error:
            return error_response(unexpected_error(error))

    async def view_response(self, request: HttpRequest) -> HttpResponseBase:
        match = request.resolver_match = route(request.path_info)
        if is_async(match.func):
            return await match.func(request, *match.args, **match.kwargs)
        return await sync_to_async(call_sync_view)(match, request)


@lru_cache(maxsize=1024)
def route(path: str) -> ResolverMatch:
    """Return the view for a path, or the one that answers rest_no_route."""
    try:
        return resolve(path)
    except Resolver404:
        return resolve("/wp-json/")


@lru_cache(maxsize=1024)
def is_async(view: Callable[..., Any]) -> bool:
    return iscoroutinefunction(view)


def call_sync_view(match: ResolverMatch, request: HttpRequest) -> HttpResponseBase:
    """Call and render one of DRF's own views, or any other synchronous view, in a thread that may use the database."""
    response = match.func(request, *match.args, **match.kwargs)
    return response.render() if isinstance(response, SimpleTemplateResponse) else response


async def read_body(receive: Receive) -> tuple[bytes, bool]:
    """Return the body, and whether it exceeds MAX_REQUEST_BYTES. An oversized body is read but not kept."""
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
                return b"", True  # the client sends far too much: stop reading
        else:
            chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks), size > settings.MAX_REQUEST_BYTES


async def cancel_when_client_leaves(receive: Receive, request_task: "asyncio.Task[Any] | None") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if request_task:
        request_task.cancel()


async def send_response(response: HttpResponse, send: Send, *, head: bool) -> None:
    body = response.content
    headers = [*headers_of(response), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


async def send_stream(response: EventStream, send: Send) -> None:
    """Send each piece as it arrives. The generator is always closed here, in the task that reads it."""
    async with aclosing(response.pieces):
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers_of(response)})
        async for piece in response.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def headers_of(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]


def error_response(error: ApiError) -> HttpResponse:
    response = HttpResponse(
        JSONRenderer().render(error.body()), status=error.status, content_type="application/json; charset=UTF-8"
    )
    for name, value in error.headers.items():
        response[name] = value
    return response


def summary(request: HttpRequest, status: int, started: float) -> dict[str, Any]:
    """Return the fields of a request's log line. The query is left out, because it may contain an API key."""
    return {
        "method": request.method,
        "path": request.path[:200],
        "status": status,
        "milliseconds": round((time.perf_counter() - started) * 1000, 1),
    }
