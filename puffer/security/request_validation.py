"""Checks of requests for pages, before any view sees them."""

from collections.abc import Awaitable, Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

NUL = "%00"  # PostgreSQL text cannot hold it, so a query for one fails


@async_only_middleware
def RejectNulMiddleware(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Answer 400 to a URL with a NUL byte in its query."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if NUL in request.META["QUERY_STRING"]:
            raise BadRequest("The URL contains a NUL byte.")
        return await get_response(request)

    return middleware
