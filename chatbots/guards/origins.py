"""The allowed-domains rule: whether a website may use a chatbot. Every call of the widget is checked against it.

An origin is the scheme, host and port of a page, as the browser sends it. A pattern is a line of the chatbot's list.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

import idna
from django.utils.translation import gettext_lazy as _

MAX_LINE, MAX_HOST = 300, 253  # characters
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\Z")


class InvalidOrigin(ValueError):
    """An origin or pattern that cannot be read. The message continues a sentence that begins with it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A line of the allowed domains. `port` None is the scheme's default. A wildcard matches one or more labels."""

    schemes: frozenset[str]
    host: str
    port: int | None
    is_wildcard: bool = False

    def matches(self, origin: "Origin") -> bool:
        if origin.scheme not in self.schemes or origin.port != (self.port or DEFAULT_PORTS[origin.scheme]):
            return False
        return origin.host.endswith(f".{self.host}") if self.is_wildcard else origin.host == self.host


@dataclass(frozen=True, slots=True)
class Origin:
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}")


def read_origin(text: str) -> Origin:
    """Return a normalized Origin header. Raise InvalidOrigin, also for "null", which any sandboxed frame may send."""
    scheme, host, port = split(text.strip())
    if scheme is None:
        raise InvalidOrigin(_("has no scheme."))
    return Origin(scheme, host, port or DEFAULT_PORTS[scheme])


def read_pattern(text: str) -> Pattern:
    """Parse a line such as example.com, *.example.com or https://example.com:8443. Paths are ignored."""
    if not isinstance(text, str):
        raise InvalidOrigin(_("is not text."))
    text = text.strip()
    before, wildcard, after = text.partition("*.")
    is_wildcard = bool(wildcard) and before.lower() in ("", "http://", "https://")
    scheme, host, port = split(before + after if is_wildcard else text)
    if is_wildcard and ("." not in host or is_ip(host)):
        raise InvalidOrigin(_("covers too many sites. Use a wildcard below your own domain."))
    return Pattern(frozenset([scheme] if scheme else DEFAULT_PORTS), host, port, is_wildcard)


def split(text: str) -> tuple[str | None, str, int | None]:
    """Return scheme, host and port; scheme and port are None if the text lacks them."""
    # urlsplit() would drop some of these characters.
    if len(text) > MAX_LINE or not text.isprintable() or " " in text or "\\" in text:
        raise InvalidOrigin(_("is not a valid web address."))
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    scheme = scheme.lower()
    if separator and scheme not in DEFAULT_PORTS:
        raise InvalidOrigin(_("is not a valid web address."))
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidOrigin(_("is not a valid web address.")) from None
    if parts.username is not None or port == 0:
        raise InvalidOrigin(_("is not a valid web address."))
    return scheme or None, read_host(host), port


def read_host(host: str) -> str:
    """Return the host in lower case, and internationalized names in Punycode by UTS 46, as browsers send them."""
    if is_ip(host):
        return str(ipaddress.ip_address(host))
    if len(host) > MAX_HOST:  # before any conversion, whose time grows with the square of the length
        raise InvalidOrigin(_("has no valid host name."))
    try:
        mapped = idna.uts46_remap(host.rstrip("."), std3_rules=False, transitional=False)
        name = ".".join(map(read_label, mapped.split(".")))
    except (UnicodeError, idna.IDNAError):
        raise InvalidOrigin(_("has no valid host name.")) from None
    if len(name) > MAX_HOST or not HOST.match(name):
        raise InvalidOrigin(_("has no valid host name."))
    return name


def read_label(label: str) -> str:
    """Return a label as a browser sends it. Like browsers, accept symbols that registries of names refuse."""
    return label if label.isascii() else f"xn--{label.encode('punycode').decode()}"


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_allowed(origin: str, domains: Sequence[str], *, any_domain: bool) -> bool:
    """Return whether a page of this origin may use a bot with these allowed domains. An empty list allows no site."""
    if any_domain:
        return True
    try:
        known = read_origin(origin)
    except InvalidOrigin:
        return False
    return any(known_pattern(domain).matches(known) for domain in domains)


known_pattern = lru_cache(maxsize=2000)(read_pattern)  # a list may have 500 lines
