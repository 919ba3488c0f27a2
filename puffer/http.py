"""Which addresses outgoing calls may go to."""

import ipaddress
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def validate_base_url(url: str) -> None:
    """https to anywhere; http only to this machine or a host of PRIVATE_HOST_ALLOWLIST. Raises ValidationError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValidationError("This is not a URL.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValidationError("Give a whole URL, such as https://api.example.com/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValidationError("The URL must not hold a user, a password, a query or a fragment.")
    if parts.scheme == "http" and not is_loopback(host) and host not in settings.PRIVATE_HOST_ALLOWLIST:
        raise ValidationError(
            f"Plain http is only for this machine. Use https, or add {host} to PRIVATE_HOST_ALLOWLIST."
        )
