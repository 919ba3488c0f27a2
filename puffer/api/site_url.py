"""The address at which clients reach this server."""

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from puffer.api.errors import ApiError


def site_url(request: HttpRequest) -> str:
    """Return PUBLIC_URL, else the address that the caller used, without a trailing slash.

    Raise ApiError for a host name that is not in ALLOWED_HOSTS.
    """
    try:
        return settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")
    except DisallowedHost:
        raise ApiError(
            "This host name is in neither PUBLIC_URL nor ALLOWED_HOSTS. Add it to one of them.",
            status=400,
            code="rest_aipkit_unknown_host",
        ) from None
