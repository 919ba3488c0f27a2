"""The API's path from the socket to the view and back.

Django's ASGI handler switches to a thread several times per request (signals, rendering, closing) and runs all
middleware of the admin. For a call that waits for a provider, that is most of the server's work. This handler does only
what the API needs: assign a request id, route, await the view, send the response. The view reads the body once it knows
the caller.

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

from puffer.api.errors import ApiError, InvalidUrl, RequestTooLarge, unexpected_error
from puffer.api.event_stream import EventStream
from puffer.api.renderers import JSONRenderer
from puffer.http import Body, BodyTooLarge, ClientLeft, InvalidHead, check_head
from puffer.request_id import HEADER, take_request_id
from puffer.runtime.database_threads import api_threads

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

logger = logging.getLogger("puffer.requests")


class ApiHandler:
    """The ASGI application for everything below /wp-json/."""

    def __init__(self) -> None:
        self.get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]] = self.view_response
        for path in reversed(settings.API_MIDDLEWARE):
            self.get_response = import_string(path)(self.get_response)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        api_threads.assign_one()
        is_head = scope["method"] == "HEAD"
        try:
            scope = check_head(scope)
            request = ApiRequest(scope, Body(scope, receive))
        except InvalidHead as error:
            refusal = ApiError(error.message, status=error.status, code=error.code)
            await send_response(error_response(refusal), send, head=is_head)
            return
        except UnicodeDecodeError:  # raw bytes in the query string
            await send_response(error_response(InvalidUrl()), send, head=is_head)
            return
        request_id = take_request_id(request)
        try:
            response = await self.answer(request)
            await request.incoming.discard_before_close()
            response[HEADER] = request_id
            if isinstance(response, EventStream):
                await send_stream(response, send)
        except ClientLeft:
            return
        except asyncio.CancelledError:
            if not request.client_has_left():
                raise  # the server is shutting down
            logger.info("client left", extra=summary(request, 499, started))
            return
        finally:
            request.stop_watching()
        if isinstance(response, HttpResponse):
            await send_response(response, send, head=is_head)
        logger.info("answered", extra=summary(request, response.status_code, started))

    async def answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            return await self.get_response(request)
        except ApiError as error:
            return error_response(error)
        except ClientLeft:
            raise
        except Exception as error:
            return error_response(unexpected_error(error))

    async def view_response(self, request: Any) -> HttpResponseBase:
        match = request.resolver_match = route(request.path_info)
        if is_async(match.func):
            return await match.func(request, *match.args, **match.kwargs)
        await request.read_body(settings.MAX_REQUEST_BYTES)
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


class ApiRequest(ASGIRequest):
    """A request whose body is still to be received: `read_body()`, before anything that parses it."""

    def __init__(self, scope: Scope, incoming: Body) -> None:
        super().__init__(scope, io.BytesIO())
        self.incoming = incoming
        self.leaving: asyncio.Task[None] | None = None

    async def read_body(self, limit: int) -> bytes:
        """Return the body, which is then also in `body` and `POST`. Raise RequestTooLarge.

        From then on the request is canceled when its client leaves.
        """
        try:
            content = await self.incoming.read(limit)
        except BodyTooLarge as error:
            raise RequestTooLarge(str(error)) from None
        if self.leaving is None:
            self.META["CONTENT_LENGTH"] = str(len(content))  # which a chunked body lacks, and Django's parser needs
            self._stream = io.BytesIO(content)
            watch = cancel_when_client_leaves(self.incoming.receive, asyncio.current_task())
            self.leaving = asyncio.create_task(watch)
        return content

    def client_has_left(self) -> bool:
        return self.leaving is not None and self.leaving.done()

    def stop_watching(self) -> None:
        if self.leaving is not None:
            self.leaving.cancel()


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
