"""Read all pages of a sitemap: XML, text, or a feed. Source: https://www.sitemaps.org/protocol.html"""

import gzip
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from lxml import etree
from protego import Protego

from puffer.net import USER_AGENT, NoAnswer, Page
from vectorstores.extraction import Unreadable, decode, detect, is_html
from vectorstores.extraction.xml_repair import local_name, well_formed
from vectorstores.ingestion.rows import Found, Note, Refused, Row, stable_id
from vectorstores.sources.links import Link, absolute
from vectorstores.sources.web import fetch_patiently, is_url, page_row, read_page, site_of

MAX_SITEMAP = 50 * 1024 * 1024  # bytes unpacked, as sitemaps.org allows
MAX_SITEMAPS = 1000  # in an index of sitemaps
MAX_ROBOTS = 512 * 1024  # bytes
DELAY, LONGEST_DELAY = 0.2, 10.0  # seconds between two pages of a site


def sitemap_rows(url: str, max_pages: int, encoding: str | None = None) -> Iterator[Found]:
    """Read the pages in a sitemap that are on its own site and that robots.txt allows, one after another."""
    site = Site(url, encoding)
    read: set[str] = set()  # the ids of the pages that were read under their own URL
    variants: dict[str, str] = {}  # the id of a canonical URL -> a page that names it and has another URL
    number = variant_count = 0
    for found in site.pages():
        if isinstance(found, Refused):
            yield found
            continue
        if number == max_pages:
            yield Refused(url, f"Only the first {max_pages} pages are read (--max-pages).", True)
            break
        number += 1
        row = site.row(found)
        if isinstance(row, Row) and row.item["id"] != stable_id(row.source):
            variants.setdefault(row.item["id"], found)
            variant_count += 1
            continue
        if isinstance(row, Row):
            read.add(row.item["id"])
        yield row
    for document_id, address in variants.items():
        if document_id not in read:  # the canonical page itself is not in the sitemap
            variant_count -= 1
            yield site.row(address)
    if variant_count:
        yield Note(
            url, f"Pages that are another version of a page that was read, by their canonical URL: {variant_count}."
        )
    if not number and not site.has_failed:
        yield Refused(url, "The sitemap contains no pages.", True)


class Site:
    """The site of a sitemap or page: its own hosts, and what their robots.txt allows.

    `read_entries` reads the entries of a sitemap, like entries().
    """

    def __init__(
        self,
        url: str,
        encoding: str | None = None,
        read_entries: Callable[[bytes, str | None, str], Iterable[Link]] | None = None,
    ) -> None:
        self.url = url
        self.encoding = encoding  # None: recognize it for each page
        self.read_entries = read_entries or entries
        self.hosts = {site_of(url)}
        self.rules: dict[str, Protego | Refused] = {}
        self.delay = DELAY
        self.has_failed = False

    def row(self, url: str) -> Row | Refused:
        """Read the row of a page, if the site has it and its robots.txt allows it."""
        page = self.page(url)
        return page if isinstance(page, Refused) else page_row(page, self.url, self.encoding)

    def page(self, url: str, headers: Mapping[str, str] | None = None) -> Page | Refused:
        """Fetch a page after a pause, if the site has it and its robots.txt allows it. See read_page()."""
        refused = self.refusal(url)
        if refused:
            return refused
        time.sleep(self.delay)
        return read_page(url, headers)

    def refusal(self, url: str) -> Refused | None:
        """Return why an address must not be read; None if it may be."""
        if site_of(url) not in self.hosts:
            return Refused(url, "It is on a different host than the sitemap.")
        rules = self.robots(url)
        if isinstance(rules, Refused):
            return Refused(url, rules.reason, True)
        if not rules.can_fetch(url, USER_AGENT):
            return Refused(url, "The robots.txt of the site does not allow reading it.")
        return None

    def robots(self, url: str) -> Protego | Refused:
        """Return the rules for the host. A missing robots.txt allows everything, a failure nothing. Source: RFC 9309"""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self.rules:
            self.rules[origin] = rules = self.read_robots(f"{origin}/robots.txt")
            if isinstance(rules, Protego):
                self.delay = max(self.delay, min(rules.crawl_delay(USER_AGENT) or DELAY, LONGEST_DELAY))
        return self.rules[origin]

    def read_robots(self, url: str) -> Protego | Refused:
        try:
            page = fetch_patiently(url, MAX_ROBOTS)
        except NoAnswer as error:
            return Refused(url, f"It cannot be read, because robots.txt {error}", True)
        if page.status == 200:
            encoding = detect([page.body])
            return Protego.parse(page.body.decode(encoding.name, encoding.errors))
        if page.status < 500:
            return Protego.parse("")
        return Refused(url, f"It cannot be read, because robots.txt answered with HTTP {page.status}.", True)

    def pages(self) -> Iterator[str | Refused]:
        """Yield the addresses of the pages, each once. An index of sitemaps is followed within the site."""
        rules = self.robots(self.url)
        if isinstance(rules, Refused):
            yield self.failure(self.url, rules.reason)
            return
        waiting, seen, count = [self.url], {self.url}, 0
        while waiting:
            url = waiting.pop(0)
            count += 1
            try:
                if count > MAX_SITEMAPS:
                    raise Unreadable(f"Only the first {MAX_SITEMAPS} sitemaps of an index are read.")
                for link in self.entries(url, is_root=count == 1):
                    if link.address in seen:
                        continue
                    seen.add(link.address)
                    if not link.is_sitemap:
                        yield link.address
                    elif site_of(link.address) in self.hosts:
                        waiting.append(link.address)
                    else:
                        yield self.failure(link.address, "The sitemap is on a different host than its index.")
            except NoAnswer as error:
                yield self.failure(url, f"The sitemap {error}")
            except Unreadable as error:
                yield self.failure(url, str(error))
                if count > MAX_SITEMAPS:
                    return
            if waiting:
                time.sleep(self.delay)

    def failure(self, place: str, reason: str) -> Refused:
        self.has_failed = True
        return Refused(place, reason, True)

    def entries(self, url: str, *, is_root: bool) -> Iterator[Link]:
        """Fetch a sitemap and yield its entries. The target of the first one's redirect belongs to the site too."""
        page = fetch_patiently(url)
        if page.status != 200:
            raise Unreadable(f"The sitemap answered with HTTP {page.status}.")
        if is_root:
            self.hosts.add(site_of(page.url))
        rules = self.robots(page.url)
        if is_root and is_html(page.body) and isinstance(rules, Protego):  # the start page, perhaps
            yield from (Link(address, is_sitemap=True) for address in rules.sitemaps)
            if any(rules.sitemaps):
                return
        yield from self.read_entries(page.body, page.charset, page.url)


def entries(body: bytes, charset: str | None, base: str) -> Iterator[Link]:
    """Yield the pages and sitemaps that a sitemap names. Raise Unreadable."""
    data = unpacked(body)
    if is_html(data):
        raise Unreadable("It is a web page and not a sitemap or a feed.")
    text = decode(data, charset, "text/xml").text.lstrip("\ufeff \t\r\n")
    damage = ""
    if text.startswith("<"):
        root, damage = parsed(text, base)
        found = [] if root is None else list(xml_entries(root))
    else:
        found = [(False, line) for line in map(str.strip, text.splitlines()) if is_url(line) or line.startswith("/")]
        if text and not found:
            raise Unreadable("It is not a sitemap: neither XML nor a list of URLs.")
    for is_sitemap, location in found:
        if address := absolute(base, location):
            yield Link(address, is_sitemap)
    if damage:
        raise Unreadable(f"The sitemap is damaged, so pages may be missing: {damage}.")


def parsed(text: str, base: str) -> tuple[Any, str]:
    """Return the root of the XML and what is wrong with it, "" if nothing is. No entity is resolved."""
    parser = etree.XMLParser(recover=True, resolve_entities=False, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(well_formed(text).encode(), parser, base_url=base)
    except etree.XMLSyntaxError as error:
        return None, str(error)
    fatal = [error for error in parser.error_log if error.level == etree.ErrorLevels.FATAL]
    return root, f"{fatal[0].message.strip()} in line {fatal[0].line}" if fatal else ""


def xml_entries(root: Any) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is a sitemap, location) of a sitemap, an index of sitemaps, or a feed (RSS, Atom)."""
    for element in root.iter(etree.Element):
        name, parent = local_name(element.tag).lower(), element.getparent()
        above = local_name(parent.tag).lower() if parent is not None else ""
        if name == "loc" and above in ("url", "sitemap", "urlset"):
            yield above == "sitemap", "".join(element.itertext())
        elif name == "link" and above == "item":
            yield False, "".join(element.itertext())
        elif name == "guid" and above == "item" and element.get("isPermaLink", "true") != "false":
            if next((beside for beside in parent if local_name(str(beside.tag)) == "link"), None) is None:
                yield False, "".join(element.itertext())
        elif name == "link" and above == "entry" and element.get("rel", "alternate") == "alternate":
            yield False, resolved(element, element.get("href", ""))


def resolved(element: Any, address: str) -> str:
    """Return an address relative to the xml:base that holds for the element."""
    try:
        return urljoin(element.base or "", address)
    except ValueError:
        return address


def unpacked(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            data = file.read(MAX_SITEMAP + 1)
    except (OSError, EOFError) as error:
        raise Unreadable(f"The sitemap cannot be unpacked: {error}.") from error
    if len(data) > MAX_SITEMAP:
        raise Unreadable(f"The sitemap is larger than {MAX_SITEMAP // 1024**2} MB.")
    return data
