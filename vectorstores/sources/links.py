"""The links of a web page, for crawls."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urldefrag, urljoin

from puffer.net import USER_AGENT
from vectorstores.extraction.html import parsed


@dataclass(frozen=True, slots=True)
class Link:
    """An address that a page or a sitemap names."""

    address: str
    is_sitemap: bool = False


def links_in(html: str, base: str) -> Iterator[Link]:
    """Yield the links of the page at `base`, each once, without those that crawlers must not follow.

    Raise Unreadable.
    """
    root = parsed(html)
    metas = [meta for meta in root.iter("meta") if meta.get("name", "").strip().lower() in ("robots", USER_AGENT)]
    if any("nofollow" in meta.get("content", "").lower() for meta in metas):
        return
    for element in root.iter("base"):
        base = absolute(base, element.get("href", "")) or base
    seen: set[str] = set()
    for element in root.iter("a", "area"):
        if "nofollow" in element.get("rel", "").lower().split():
            continue
        address = absolute(base, element.get("href", ""))
        if address and address not in seen:
            seen.add(address)
            yield Link(address)


def absolute(base: str, location: str) -> str:
    """Return the address of a location, which may be relative, without its fragment; "" if it is not a web page."""
    location = "".join(location.split("\n")).strip()
    try:
        address = urldefrag(urljoin(base, location))[0] if location else ""
    except ValueError:
        return ""
    return address if address.lower().startswith(("http://", "https://")) else ""
