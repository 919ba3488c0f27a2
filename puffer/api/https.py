"""Transport security of the API. Django's SecurityMiddleware does the same for pages."""

from collections.abc import Awaitable, Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

from puffer.api.errors import ApiError


class HttpsRequired(ApiError):
    """A call over plain http. It is refused and not redirected: a client that gets an answer keeps sending its key."""

    status = 403
    code = "rest_https_required"
    message = (
        "This server answers its API over https only, because PUBLIC_URL is https. Call it at that address. "
        "A proxy in front must send the header X-Forwarded-Proto: https. A key sent over plain http should be replaced."
    )


@async_only_middleware
def require_https(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Refuse plain http if PUBLIC_URL is https, and tell browsers to use https only; a middleware."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if not settings.HTTPS:
            return await get_response(request)
        if not request.is_secure():
            raise HttpsRequired
        response = await get_response(request)
        response["Strict-Transport-Security"] = f"max-age={settings.SECURE_HSTS_SECONDS}"
        return response

    return middleware
