"""The id of a request, in its response and in every log line about it."""

import re
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

HEADER = "X-Request-ID"
WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,100}\Z")

request_id: ContextVar[str] = ContextVar("request_id", default="")


def take_request_id(request: HttpRequest) -> str:
    """Return the caller's id if it is well formed, else a new one. Log lines of this context carry it from now on."""
    given = request.META.get("HTTP_X_REQUEST_ID", "")
    chosen = given if WELL_FORMED.match(given) else uuid.uuid4().hex
    request_id.set(chosen)
    return chosen


@async_only_middleware
def RequestIdMiddleware(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        chosen = take_request_id(request)
        response = await get_response(request)
        response[HEADER] = chosen
        return response

    return middleware
