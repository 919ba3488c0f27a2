"""Where this server is reached from outside."""

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from puffer.api.errors import ApiError


def site_url(request: HttpRequest) -> str:
    """PUBLIC_URL, else what the caller used, without a slash at the end. Raises ApiError for a foreign host name."""
    try:
        return settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
    except DisallowedHost:
        raise ApiError(
            "This host name is not one of the server's: it is in neither PUBLIC_URL nor ALLOWED_HOSTS.",
            status=400,
            code="rest_aipkit_unknown_host",
        ) from None
