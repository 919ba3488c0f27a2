"""Read web pages. Pages of a sitemap are in sitemap.py."""

import time
from collections.abc import Mapping
from email.message import Message
from pathlib import PurePath
from urllib.parse import unquote, urldefrag, urlsplit

from requests.utils import parse_header_links

from puffer.net import USER_AGENT, NoAnswer, Page, fetch, parse_retry_after
from vectorstores.extraction import MEDIA_TYPES, Unreadable, decode, forbids_indexing, head_of, recognize
from vectorstores.ingestion.rows import File, Refused, Row, file_row, stable_id

ATTEMPTS = 3
BUSY = (429, 503)
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the next attempt; a longer Retry-After is not waited for
LINE_ENDS = {ord("\r"): " ", ord("\n"): " "}
GONE, NOT_MODIFIED = (404, 410), 304
SUPPORTED_TYPES = set(MEDIA_TYPES.values())


def fetch_patiently(url: str, max_bytes: int | None = None, headers: Mapping[str, str] | None = None) -> Page:
    """Return the page. Retry a busy server after its Retry-After, if that is short. Raise NoAnswer."""
    for attempt in range(1, ATTEMPTS + 1):
        page = fetch(url, max_bytes=max_bytes, headers=headers)
        retry_after = parse_retry_after(page.headers.get("retry-after", ""))
        wait = FIRST_WAIT * attempt if retry_after is None else retry_after
        if page.status not in BUSY or attempt == ATTEMPTS or wait > LONGEST_WAIT:
            return page
        time.sleep(wait)
    raise AssertionError("the last attempt returns")


def read_page(url: str, headers: Mapping[str, str] | None = None) -> Page | Refused:
    """Return a page that may be indexed, or why it cannot be read.

    With the `headers` of a conditional request, the page of an unchanged one has the status 304 and no body.
    """
    try:
        page = fetch_patiently(url, headers=headers)
    except NoAnswer as error:
        return Refused(url, f"It {error}", True)
    if page.status == NOT_MODIFIED and headers:
        return page
    if page.status != 200:
        return Refused(url, f"The server answered with HTTP {page.status}.", page.status not in GONE)
    if forbidden_by(page.headers.get("x-robots-tag", "")):
        return Refused(url, "It asks not to be indexed (noindex in X-Robots-Tag).")
    return page


def page_row(page: Page, origin: str, encoding: str | None = None) -> Row | Refused:
    """Return the row of a page, which is identified by its canonical URL or by its own, without a fragment.

    An `encoding` overrides what the server says.
    """
    url = urldefrag(page.url)[0]
    name = file_name(page)
    media_type = recognize(page.body, page.media_type, name)
    if media_type not in SUPPORTED_TYPES:
        reason = f"Pages of the type {media_type[:100] or 'unknown'} are not supported."
        if media_type.endswith("xml"):
            reason = "It is XML. If it is a sitemap or a feed, import its pages: with --sitemap, or as such a source."
        return Refused(url, reason, document_id=stable_id(url))
    charset = encoding or page.charset
    key = url
    if media_type == "text/html":
        try:
            head = head_of(decode(page.body, charset, media_type).text, url)
        except Unreadable as error:
            return Refused(url, str(error), document_id=stable_id(url))
        if head.is_noindex:
            return Refused(url, "It asks not to be indexed (<meta name=robots> with noindex).")
        key = canonical_url(url, head.canonical)
    elif canonical := canonical_in(page.headers.get("link", "")):
        key = canonical_url(url, canonical)
    file = File(page.body, media_type, charset, default_title=PurePath(name).stem)
    return file_row(file, url, origin, key=key, metadata={"url": key})


def file_name(page: Page) -> str:
    """Return the name of a page as a file: the one that the server proposes, or the last part of the URL's path."""
    header = Message()
    header["content-disposition"] = page.headers.get("content-disposition", "").translate(LINE_ENDS)
    return PurePath(header.get_filename("").replace("\\", "/")).name or PurePath(unquote(urlsplit(page.url).path)).name


def canonical_in(links: str) -> str:
    """Return the canonical URL that a Link header names; "" if none."""
    found = (link["url"] for link in parse_header_links(links) if "canonical" in link.get("rel", "").lower().split())
    return next(found, "")


def canonical_url(url: str, canonical: str) -> str:
    """Return the canonical URL that the page at `url` names if it is believable, otherwise `url`.

    It must be on the same site. Many sites wrongly name their start page on every page.
    """
    if not is_url(canonical) or site_of(canonical) != site_of(url):
        return url
    is_start_page = urlsplit(canonical).path in ("", "/") and not urlsplit(canonical).query
    return url if is_start_page and urlsplit(url).path not in ("", "/") else canonical


def forbidden_by(header: str) -> bool:
    """Return whether an X-Robots-Tag header forbids indexing to us: "noindex", "puffer: noindex".

    Rules after another crawler's name are for that crawler.
    """
    crawler = ""
    for part in header.split(","):
        named, colon, rules = part.rpartition(":")
        if colon and " " not in named.strip() and named.strip().lower() != "unavailable_after":
            crawler = named.strip().lower()
        if crawler in ("", "*", USER_AGENT) and forbids_indexing(rules):
            return True
    return False


def is_url(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def site_of(url: str) -> tuple[str, int | None]:
    """Return the host and port. Names with and without "www." are one site, and so are the default ports."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", None
    return host.removeprefix("www."), None if port in (80, 443) else port
