"""Addresses of pages that hold what no text of a database can."""

from collections.abc import Awaitable, Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

NUL = "%00"  # PostgreSQL fails where it is to look for one


@async_only_middleware
def RejectNulMiddleware(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """400 for an address with a NUL in its query."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if NUL in request.META["QUERY_STRING"]:
            raise BadRequest("There is a NUL in the address.")
        return await get_response(request)

    return middleware
