"""Which addresses the server may call: base URLs that users save, and hosts that strangers name."""

import ipaddress
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private_address(host: str) -> bool:
    """Return whether the host is an IP address of a private network. This machine and host names do not count."""
    try:
        return not is_loopback(host) and not is_public(ipaddress.ip_address(host))
    except ValueError:
        return False


def validate_base_url(url: str) -> None:
    """Allow https to public addresses and http to this machine; hosts in PRIVATE_HOST_ALLOWLIST are always allowed.

    Raises ValidationError.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValidationError("This is not a valid URL.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValidationError("Enter a full URL, such as https://api.example.com/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValidationError("The URL must not contain a user, a password, a query or a fragment.")
    if host in settings.PRIVATE_HOST_ALLOWLIST:
        return
    if is_private_address(host):
        raise ValidationError(f"{host} is a private address. To allow it, add it to PRIVATE_HOST_ALLOWLIST.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValidationError(
            f"Plain http is allowed only to this machine. Use https, or add {host} to PRIVATE_HOST_ALLOWLIST."
        )


def may_connect(host: str, address: str) -> bool:
    """Return whether a host that a stranger named may be called at this address."""
    return is_public(ipaddress.ip_address(address)) or host in settings.PRIVATE_HOST_ALLOWLIST


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether the address is public. IPv4 embedded in IPv6 counts: a gateway forwards to it."""
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return is_public(within) if within else address.is_global and not address.is_multicast
    return address.is_global and not address.is_multicast
