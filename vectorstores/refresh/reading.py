"""Read one page or file of a source: is it unchanged, and if not, which documents and links does it contain?

page -> conditional request -> 304: unchanged
                            -> the sandbox: documents, written to a spool, and links
file -> time and size       -> the same: unchanged
                            -> the sandbox: documents, written to a spool
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import IO, Any

from django.conf import settings

from puffer.net import Page
from vectorstores.extraction import Unreadable, decode, recognize
from vectorstores.ingestion.chunking import DEFAULT_CHUNKING
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument, first_id
from vectorstores.ingestion.pipeline import documents_from_rows
from vectorstores.ingestion.rows import Note, Refused, stable_id
from vectorstores.refresh.listing import Scope, open_file, site_for
from vectorstores.refresh.models import MAX_ADDRESS, Source, SourcePage
from vectorstores.sandbox.answer import Answer
from vectorstores.sandbox.process import Limits
from vectorstores.sandbox.sandbox import read_in_sandbox, write_answer
from vectorstores.sources.files import SUPPORTED_TYPES, Sources
from vectorstores.sources.links import Link, links_in
from vectorstores.sources.uploaded import file_rows
from vectorstores.sources.web import NOT_MODIFIED, file_name, is_url, site_of

LIMITS = Limits(characters=10_000_000)
MAX_LINKS = 2000  # of a page
MAX_ETAG, MAX_DATE = 500, 100  # characters
PAGE_TYPES = {".html", ".htm", ".php", ".asp", ".aspx", ".jsp", ".shtml", ".xhtml", ".cfm", ".do"}


@dataclass
class Reading:
    """What reading a page has found.

    `documents` are the content hashes by id. `named` is the address that the page is to be known by, if that is not its
    own. `links` is None if they are not known. `size` is in bytes.
    """

    page: SourcePage
    is_unchanged: bool = False
    refused: Refused | None = None
    etag: str = ""
    last_modified: str = ""
    documents: dict[str, str] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)  # of the documents
    named: str = ""
    is_variant: bool = False
    links: list[str] | None = None
    size: int = 0

    @property
    def is_unwanted(self) -> bool:
        """Return whether nothing of the page is to be stored: it is deleted, or asks not to be indexed."""
        return self.refused is not None and not (self.refused.hides_documents or self.refused.document_id)

    @property
    def content_hash(self) -> str:
        parts = sorted(f"{parent_id} {content}" for parent_id, content in self.documents.items())
        return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()


class Reader:
    """A reader of the pages of one source."""

    def __init__(self, source: Source, destination: Destination, stop: threading.Event) -> None:
        self.source = source
        self.destination = destination
        self.stop = stop
        self.site = site_for(source, stop)
        self.scope = Scope.of(source.address)

    def read(self, page: SourcePage, spool: IO[bytes], *, is_stored: bool) -> Reading:
        """Read a page and write its documents to the spool. `is_stored`: only a changed page is needed."""
        reading = Reading(page)
        start = spool.tell()
        try:
            if self.source.kind == Source.Kind.FOLDER:
                self.read_file(reading, spool, is_stored)
            else:
                self.read_page(reading, spool, is_stored)
        except Unreadable as error:
            reading.refused = Refused(page.address, str(error), document_id=stable_id(page.address))
            reading.documents.clear()
            spool.truncate(spool.seek(start))
        return reading

    def read_page(self, reading: Reading, spool: IO[bytes], is_stored: bool) -> None:
        page = reading.page
        self.site.hosts.add(site_of(page.address))  # it was listed, so it may be read
        fetched = self.site.page(page.address, conditions(page) if is_stored else None)
        if not isinstance(fetched, Refused) and fetched.url != page.address:
            fetched = self.after_redirect(fetched)
        if isinstance(fetched, Refused):
            reading.refused = fetched
            return
        reading.size = len(fetched.body)
        if fetched.status == NOT_MODIFIED:
            reading.is_unchanged, reading.etag, reading.last_modified = True, page.etag, page.last_modified
            return
        etag, last_modified = fetched.headers.get("etag", ""), fetched.headers.get("last-modified", "")
        reading.etag = etag if len(etag) <= MAX_ETAG else ""
        reading.last_modified = last_modified if len(last_modified) <= MAX_DATE else ""
        if self.source.is_crawled:
            reading.links = []
        arguments = (fetched, self.source.address, self.destination, self.source.is_crawled)
        for answer in read_in_sandbox(contents_of_page, *arguments, stop=self.stop, limits=LIMITS):
            if isinstance(answer, Link):
                self.add_link(reading, answer.address)
            else:
                add(reading, answer, spool)
        require_content(reading)

    def after_redirect(self, page: Page) -> Page | Refused:
        """Return the page if it may be read where the redirects led."""
        if self.source.kind == Source.Kind.PAGE:  # a person has chosen it
            self.site.hosts.add(site_of(page.url))
        elif site_of(page.url) not in self.site.hosts:
            return Refused(page.url, f"It redirects to another site: {page.url[:200]}")
        return self.site.refusal(page.url) or page

    def add_link(self, reading: Reading, address: str) -> None:
        links = reading.links
        suffix = PurePath(address.partition("?")[0].rpartition("/")[2]).suffix.lower()
        refused = self.site.refusal(address) if self.scope.contains(address) else None
        may_be_page = not suffix or suffix in PAGE_TYPES or suffix in SUPPORTED_TYPES or suffix[1:].isdigit()
        if (
            links is not None
            and len(links) < MAX_LINKS
            and len(address) <= MAX_ADDRESS
            and may_be_page
            and self.scope.contains(address)
            and (refused is None or refused.hides_documents)
        ):
            links.append(address)

    def read_file(self, reading: Reading, spool: IO[bytes], is_stored: bool) -> None:
        name, folder = reading.page.address, self.source.address
        try:
            descriptor = open_file(self.source, name)
        except FileNotFoundError:
            reading.refused = Refused(name, "The file was deleted.")
            return
        except OSError as error:
            reading.refused = Refused(name, f"It cannot be read: {error.strerror}.", True)
            return
        with closing(os.fdopen(descriptor, "rb")) as file:
            status = os.fstat(descriptor)
            reading.etag = f"{status.st_mtime_ns}-{status.st_size}"
            if is_stored and reading.etag == reading.page.etag:
                reading.is_unchanged = True
                return
            if status.st_size > settings.MAX_UPLOAD_BYTES:
                raise Unreadable(f"It is larger than {settings.MAX_UPLOAD_BYTES // 1024**2} MB.")
            data = file.read(settings.MAX_UPLOAD_BYTES)
        reading.size = len(data)
        arguments = (f"{folder}/{name}", data, folder, self.destination)
        for answer in read_in_sandbox(contents_of_file, *arguments, stop=self.stop, limits=LIMITS):
            add(reading, answer, spool)
        require_content(reading)


def conditions(page: SourcePage) -> dict[str, str]:
    """Return the headers that ask for a page only if it has changed. Source: RFC 9110, section 13.1"""
    headers = {"If-None-Match": page.etag, "If-Modified-Since": page.last_modified}
    return {name: value for name, value in headers.items() if value}


def add(reading: Reading, answer: Answer, spool: IO[bytes]) -> None:
    if isinstance(answer, NewDocument):
        own_id = first_id(stable_id(reading.page.address))
        named = str(answer.metadata.get("url", ""))
        if answer.parent_id != own_id and is_url(named) and answer.parent_id == first_id(stable_id(named)):
            reading.named = named  # its canonical address, or that of a redirect
        reading.documents[answer.parent_id] = answer.content_hash
        reading.sources.add(answer.source)
        write_answer(spool, answer)
    elif isinstance(answer, Refused) and reading.refused is None:
        reading.refused = answer
    elif isinstance(answer, Note) and answer.left_out and reading.refused is None:
        reading.refused = Refused(answer.place, answer.text)


def require_content(reading: Reading) -> None:
    if not reading.documents and not reading.refused:
        reading.refused = Refused(reading.page.address, "It contains no documents.", document_id="none")


# In the sandbox


def contents_of_page(page: Page, origin: str, destination: Destination, follows_links: bool) -> Iterator[Any]:
    """Yield the links and the documents of a page."""
    media_type = recognize(page.body, page.media_type, file_name(page))
    if follows_links and media_type == "text/html":
        yield from links_in(decode(page.body, page.charset, media_type).text, page.url)
    yield from documents_from_rows(Sources([]).rows_of_page(page, origin), destination, DEFAULT_CHUNKING)


def contents_of_file(name: str, data: bytes, origin: str, destination: Destination) -> Iterator[Any]:
    """Yield the documents of a file."""
    return documents_from_rows(file_rows(name, data, origin, key=name), destination, DEFAULT_CHUNKING)
