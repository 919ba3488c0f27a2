"""The id that every answer carries and every log line of its request names."""

import re
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

HEADER = "X-Request-ID"
SANE = re.compile(r"[A-Za-z0-9._:-]{1,100}\Z")

request_id: ContextVar[str] = ContextVar("request_id", default="")


def take_request_id(request: HttpRequest) -> str:
    """The caller's own id where it is sane, else a new one; log lines of this context carry it from here on."""
    given = request.META.get("HTTP_X_REQUEST_ID", "")
    chosen = given if SANE.match(given) else uuid.uuid4().hex
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
