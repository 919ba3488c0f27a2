"""Checks of the addresses that the server may call: base URLs that users save, and untrusted hosts."""

import ipaddress
from urllib.parse import SplitResult, urlsplit

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


def validate_base_url(url: str) -> None:
    """Require https to a public address or http to this machine. Any host in PRIVATE_HOST_ALLOWLIST passes.

    Raise ValidationError.
    """
    parts, host = split_url(url, example="https://api.example.com/v1")
    if parts.query:
        raise ValidationError("The URL must not contain a query.")
    if is_allowlisted(host, port_of(parts)) or is_loopback(host):
        return
    refuse_private(host)
    if parts.scheme == "http":
        raise ValidationError(
            f"Plain http is allowed only on this machine. Use https, or add {host} to PRIVATE_HOST_ALLOWLIST."
        )


def validate_public_url(url: str) -> None:
    """Require https to a public address. Any host in PRIVATE_HOST_ALLOWLIST passes. Raise ValidationError.

    A public name may still resolve to a private address, so the sender checks the address again: see may_connect().
    """
    example = "https://www.example.com/puffer"
    parts, host = split_url(url, example)
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise ValidationError(f"Enter a complete URL, such as {example}.")
    if is_allowlisted(host, port_of(parts)):
        return
    if parts.scheme == "http":
        raise ValidationError(f"Use https, or add {host} to PRIVATE_HOST_ALLOWLIST.")
    refuse_private(host)


def split_url(url: str, example: str) -> tuple[SplitResult, str]:
    """Return the parts of an http or https URL without user, password and fragment, and its host.

    Raise ValidationError, which shows the example.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValidationError("This is not a valid URL.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValidationError(f"Enter a complete URL, such as {example}.")
    if parts.username or parts.password or parts.fragment:
        raise ValidationError("The URL must not contain a user, a password or a fragment.")
    return parts, host


def refuse_private(host: str) -> None:
    """Raise ValidationError for this machine and for an address in a private network. Names pass."""
    try:
        is_private = host == "localhost" or not is_public(ipaddress.ip_address(host))
    except ValueError:
        return
    if is_private:
        raise ValidationError(f"{host} is a private address. To allow it, add it to PRIVATE_HOST_ALLOWLIST.")


def may_connect(host: str, port: int | None, address: str) -> bool:
    """Return whether a host that a stranger named may be called at this address."""
    return is_public(ipaddress.ip_address(address)) or is_allowlisted(host, port)


def is_allowlisted(host: str, port: int | None) -> bool:
    """Return whether PRIVATE_HOST_ALLOWLIST has the host, which allows all its ports, or the host with this port."""
    written = f"[{host}]" if ":" in host else host
    return not {host, f"{written}:{port}"}.isdisjoint(settings.PRIVATE_HOST_ALLOWLIST)


def port_of(parts: SplitResult) -> int:
    return parts.port or (80 if parts.scheme == "http" else 443)


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether the address is public. IPv4 embedded in IPv6 must be public too: a gateway forwards to it."""
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return is_public(within) if within else address.is_global and not address.is_multicast
    return address.is_global and not address.is_multicast
