"""The IP address of a client, read only from what trusted proxies wrote."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from django.conf import settings
from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str:
    """Return the address of the client, or "" if unknown.

    X-Forwarded-For is read from its right end, only as far as TRUSTED_PROXY_COUNT proxies have written it: the client
    itself can send anything further left.
    """
    return seen_ip(request.META.get("REMOTE_ADDR") or "", request.META.get("HTTP_X_FORWARDED_FOR", ""))


def seen_ip(claimed: str, forwarded_for: str) -> str:
    """Return the address that the last trusted proxy has seen, else that of the connection; "" if it is not valid."""
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    if settings.TRUSTED_PROXY_COUNT and hops:
        claimed = hops[-min(settings.TRUSTED_PROXY_COUNT, len(hops))]
    try:
        return str(ip_address(claimed))
    except ValueError:
        return ""


def read_ip(address: str) -> IPv4Address | IPv6Address | None:
    """Return the parsed address, or None if it is not valid. IPv4 written as IPv6 (::ffff:192.0.2.1) is IPv4."""
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def network_of(address: str) -> str:
    """Return a key of the network that counts as one client: an IPv4 address, or a /64 of IPv6; "" if it is unknown.

    One client can freely choose addresses within their /64. Unknown addresses are not counted, because behind a Unix
    socket all clients would share one counter.
    """
    ip = read_ip(address)
    if ip is None:
        return ""
    return f"address:{int(ip) >> 64:016x}/64" if ip.version == 6 else f"address:{ip}"


def anonymized(address: str) -> str:
    """Return the network of the address: 24 bits of IPv4, 48 of IPv6. Any other text is returned unchanged."""
    ip = read_ip(address)
    if ip is None:
        return address
    hidden = 8 if ip.version == 4 else 80
    return str(type(ip)(int(ip) >> hidden << hidden))
