"""The address at which clients reach this server. It has a path where a proxy serves puffer below one."""

from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.urls import get_script_prefix, reverse

from puffer.api.errors import ApiError


def site_url(request: HttpRequest) -> str:
    """Return PUBLIC_URL, else the address that the caller used, without a trailing slash.

    Raise ApiError for a host name that is not in ALLOWED_HOSTS.
    """
    try:
        return settings.PUBLIC_URL or requested_url(request)
    except DisallowedHost:
        raise ApiError(
            "This host name is in neither PUBLIC_URL nor ALLOWED_HOSTS. Add it to one of them.",
            status=400,
            code="rest_aipkit_unknown_host",
        ) from None


def requested_url(request: HttpRequest) -> str:
    """Return the address that the caller used, without a trailing slash."""
    return request.build_absolute_uri(f"{settings.FORCE_SCRIPT_NAME or ''}/").rstrip("/")


def path_below_site(view: Any, *args: Any) -> str:
    """Return the path of a page to append to `site_url`, which has the path that `reverse` begins with."""
    return "/" + reverse(view, args=args).removeprefix(get_script_prefix())
