"""Pages of the web, alone or as a sitemap names them. Source: https://www.sitemaps.org/protocol.html"""

import gzip
import io
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse
from protego import Protego

from puffer.net import USER_AGENT, NoAnswer, Page, fetch
from vectorstores.ingestion.extract import MEDIA_TYPES, Unreadable, decode
from vectorstores.sources.rows import Refused, Row, document_row, stable_id
from vectorstores.sources.wordpress import local_name

MAX_SITEMAP = 50 * 1024 * 1024  # bytes unpacked, as sitemaps.org allows
MAX_SITEMAPS = 1000  # of an index
MAX_ROBOTS = 512 * 1024  # bytes
DELAY, LONGEST_DELAY = 0.2, 10.0  # seconds between two pages of a site
GONE = (404, 410)
READ = {*MEDIA_TYPES.values(), "application/xhtml+xml"}


def page_row(url: str, origin: str, trusted_host: str) -> Row | Refused:
    """The host is one that somebody we trust has named; a redirect may lead to another, but not into our network."""
    try:
        page = fetch(url, trusted_host=trusted_host)
    except NoAnswer as error:
        return Refused(url, f"It {error}", True)
    if page.status != 200:
        return Refused(url, f"It answered with HTTP {page.status}.", page.status not in GONE)
    media_type = page.media_type or "text/html"
    if media_type not in READ:
        return Refused(page.url, f"Pages of the type {media_type[:100]} are not read.", document_id=stable_id(page.url))
    return document_row(
        page.body, media_type, page.url, origin, key=page.url, metadata={"url": page.url}, charset=page.charset
    )


def sitemap_rows(url: str, max_pages: int) -> Iterator[Row | Refused]:
    """The pages that a sitemap names, of its own host, as far as robots.txt allows, one after the other."""
    site = Site(url)
    try:
        robots = site.robots()
        delay = min(robots.crawl_delay(USER_AGENT) or DELAY, LONGEST_DELAY)
        for number, address in enumerate(site.pages(url, delay)):
            if number == max_pages:
                yield Refused(url, f"Only the first {max_pages} pages are read (--max-pages).", True)
                return
            if not site.has(address):
                yield Refused(address, "It is on another host than the sitemap.")
            elif not robots.can_fetch(address, USER_AGENT):
                yield Refused(address, "The site's robots.txt does not allow it.")
            else:
                time.sleep(delay)
                yield page_row(address, url, site.host)
    except (NoAnswer, Unreadable) as error:
        yield Refused(url, f"The sitemap {error}", True)


class Site:
    """A host and port, by the address of its sitemap."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host, self.port = host_and_port(url)

    def has(self, url: str) -> bool:
        return host_and_port(url) == (self.host, self.port)

    def robots(self) -> Protego:
        """What may be read. Source: RFC 9309, by which a file that is not there allows all, and a failure nothing."""
        parts = urlsplit(self.url)
        page = self.fetch(f"{parts.scheme}://{parts.netloc}/robots.txt", MAX_ROBOTS)
        if page.status == 200:
            return Protego.parse(decode(page.body))
        if page.status < 500:
            return Protego.parse("")
        raise Unreadable(f"is not read, for robots.txt answered with HTTP {page.status}.")

    def pages(self, url: str, delay: float) -> Iterator[str]:
        """The addresses, each once. An index of sitemaps is followed, within the site."""
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
    """(whether it is a sitemap, address) of what a sitemap names. Raises Unreadable."""
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
        raise Unreadable(f"is no XML that may be read: {error}.") from error


def unpacked(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        data = file.read(MAX_SITEMAP + 1)
    if len(data) > MAX_SITEMAP:
        raise Unreadable(f"is larger than {MAX_SITEMAP // 1024**2} MB.")
    return data
