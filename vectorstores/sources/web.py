"""Read web pages, single ones or all pages of a sitemap. Source: https://www.sitemaps.org/protocol.html"""

import gzip
import io
import time
from collections.abc import Iterator
from pathlib import PurePath
from urllib.parse import urlsplit

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse
from protego import Protego

from puffer.net import USER_AGENT, NoAnswer, Page, fetch
from vectorstores.extraction import MEDIA_TYPES, Unreadable, detect
from vectorstores.ingestion.rows import File, Found, Refused, Row, file_row, stable_id
from vectorstores.sources.wordpress import local_name

MAX_SITEMAP = 50 * 1024 * 1024  # bytes unpacked, as sitemaps.org allows
MAX_SITEMAPS = 1000  # in an index of sitemaps
MAX_ROBOTS = 512 * 1024  # bytes
DELAY, LONGEST_DELAY = 0.2, 10.0  # seconds between two pages of a site
GONE = (404, 410)
SUPPORTED_TYPES = {*MEDIA_TYPES.values(), "application/xhtml+xml"}


def page_row(url: str, origin: str, trusted_host: str, encoding: str | None = None) -> Row | Refused:
    """Read a page. `trusted_host` may be a private address; redirects to other hosts must be public.

    An `encoding` overrides what the server says.
    """
    try:
        page = fetch(url, trusted_host=trusted_host)
    except NoAnswer as error:
        return Refused(url, f"It {error}", True)
    if page.status != 200:
        return Refused(url, f"The server answered with HTTP {page.status}.", page.status not in GONE)
    media_type = page.media_type or "text/html"
    if media_type not in SUPPORTED_TYPES:
        reason = f"Pages of the type {media_type[:100]} are not supported."
        return Refused(page.url, reason, document_id=stable_id(page.url))
    file = File(page.body, media_type, encoding or page.charset, default_title=PurePath(page.url).stem)
    return file_row(file, page.url, origin, key=page.url, metadata={"url": page.url})


def sitemap_rows(url: str, max_pages: int, encoding: str | None = None) -> Iterator[Found]:
    """Read the pages in a sitemap that are on its own host and that robots.txt allows, one after another."""
    site = Site(url)
    try:
        robots = site.robots()
        delay = min(robots.crawl_delay(USER_AGENT) or DELAY, LONGEST_DELAY)
        for number, address in enumerate(site.pages(url, delay)):
            if number == max_pages:
                yield Refused(url, f"Only the first {max_pages} pages are read (--max-pages).", True)
                return
            if not site.has(address):
                yield Refused(address, "It is on a different host than the sitemap.")
            elif not robots.can_fetch(address, USER_AGENT):
                yield Refused(address, "The robots.txt of the site does not allow reading it.")
            else:
                time.sleep(delay)
                yield page_row(address, url, site.host, encoding)
    except (NoAnswer, Unreadable) as error:
        yield Refused(url, f"The sitemap {error}", True)


class Site:
    """The host and port of a sitemap."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host, self.port = host_and_port(url)

    def has(self, url: str) -> bool:
        return host_and_port(url) == (self.host, self.port)

    def robots(self) -> Protego:
        """Return the rules of robots.txt. A missing file allows everything, a failure nothing. Source: RFC 9309"""
        parts = urlsplit(self.url)
        page = self.fetch(f"{parts.scheme}://{parts.netloc}/robots.txt", MAX_ROBOTS)
        if page.status == 200:
            encoding = detect([page.body])
            return Protego.parse(page.body.decode(encoding.name, encoding.errors))
        if page.status < 500:
            return Protego.parse("")
        raise Unreadable(f"cannot be read, because robots.txt answered with HTTP {page.status}.")

    def pages(self, url: str, delay: float) -> Iterator[str]:
        """Yield the addresses of the pages, each once. An index of sitemaps is followed within the site."""
        waiting, seen, read = [url], {url}, 0
        while waiting and read < MAX_SITEMAPS:
            here = self.fetch(waiting.pop(0))
            read += 1
            if here.status != 200:
                raise Unreadable(f"answered with HTTP {here.status}.")
            for is_sitemap, address in entries(here.body):
                if address in seen:
                    continue
                seen.add(address)
                if not is_sitemap:
                    yield address
                elif self.has(address):
                    waiting.append(address)
            if waiting:
                time.sleep(delay)

    def fetch(self, url: str, max_bytes: int | None = None) -> Page:
        return fetch(url, trusted_host=self.host, max_bytes=max_bytes)


def is_url(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def host_and_port(url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port
    except ValueError:
        return "", None


def entries(body: bytes) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is a sitemap, address) for each entry of a sitemap. Raises Unreadable."""
    try:
        for _, element in iterparse(io.BytesIO(unpacked(body)), forbid_dtd=True):
            name = local_name(element.tag)
            if name in ("url", "sitemap"):
                found = (child.text or "" for child in element if local_name(child.tag) == "loc")
                address = next(found, "").strip()
                if is_url(address):
                    yield name == "sitemap", address
                element.clear()
    except (ParseError, DefusedXmlException, ValueError, LookupError, OSError, EOFError) as error:
        raise Unreadable(f"cannot be read as XML: {error}.") from error


def unpacked(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        data = file.read(MAX_SITEMAP + 1)
    if len(data) > MAX_SITEMAP:
        raise Unreadable(f"is larger than {MAX_SITEMAP // 1024**2} MB.")
    return data
