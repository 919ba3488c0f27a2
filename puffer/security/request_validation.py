"""Checks of requests for pages, before any view sees them."""

import logging
from collections.abc import Awaitable, Callable

from django.core.exceptions import BadRequest
from django.db import DataError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import async_only_middleware
from django.utils.deprecation import MiddlewareMixin
from django.views.defaults import bad_request

logger = logging.getLogger(__name__)

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


class OutOfRangeMiddleware(MiddlewareMixin):
    """Answer 400 to an address with a number or a date that no database column holds, such as a filter of a list."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if request.method not in ("GET", "HEAD") or not isinstance(exception, OverflowError | DataError):
            return None
        logger.warning("an address holds a value out of range: %s", request.path, exc_info=exception)
        return bad_request(request, exception)
