"""List the pages of a source: those of a sitemap or a feed, the start of a crawl, or the files of a folder.

web page        the address itself
website         its sitemap: the address, what robots.txt names, or /sitemap.xml; only pages below the address.
                Without a sitemap the address itself, whose links are followed while the pages are read
feed            the pages of its entries
folder          the files of supported types
"""

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from django.conf import settings
from protego import Protego

from puffer.net import NoAnswer, Page
from vectorstores.extraction import Unreadable, is_html
from vectorstores.ingestion.rows import Refused
from vectorstores.refresh.models import MAX_ADDRESS, Source
from vectorstores.sandbox.answer import Answer
from vectorstores.sandbox.sandbox import read_in_sandbox
from vectorstores.sources.files import files_in, is_within
from vectorstores.sources.links import Link
from vectorstores.sources.sitemap import Site, entries
from vectorstores.sources.web import fetch_patiently, site_of

OK = 200


class ListingFailed(Exception):
    """A source whose pages cannot be listed; the message says why. `is_transient`: a retry may succeed."""

    def __init__(self, text: str, *, is_transient: bool = False) -> None:
        super().__init__(text)
        self.is_transient = is_transient


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a source. `refused` says why it must not be read; "" if it may be."""

    address: str
    refused: str = ""


@dataclass
class Listing:
    """A list of the pages of a source. The last attributes are known once all pages are yielded."""

    source: Source
    stop: threading.Event
    sitemap: str = ""  # where the pages of a site are listed
    problems: list[Refused] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.site = site_for(self.source, self.stop)

    def pages(self) -> Iterator[Listed]:
        """Yield the pages. Raise ListingFailed if the source has no pages."""
        kind = self.source.kind
        if kind == Source.Kind.PAGE:
            yield Listed(self.source.address)
        elif kind == Source.Kind.FOLDER:
            yield from self.files()
        elif kind == Source.Kind.FEED:
            yield from self.entries([self.site])
        elif sitemaps := self.sitemaps():
            self.sitemap = sitemaps[0].url
            yield from self.entries(sitemaps)
        else:
            yield Listed(self.source.address)

    def sitemaps(self) -> list[Site]:
        """Return the sitemaps of a site; none if its links must be followed. Raise ListingFailed."""
        address = self.source.address
        start = self.site.page(address)
        if isinstance(start, Page):
            if site_of(start.url) != site_of(address):
                raise ListingFailed(f"It redirects to another site. Add {start.url[:200]} instead.")
            if not is_html(start.body):
                return [self.site]
        elif start.hides_documents:
            raise ListingFailed(f"{address}: {start.reason}", is_transient=True)
        base = start.url if isinstance(start, Page) else address
        rules = self.site.robots(base)
        if isinstance(rules, Protego) and (declared := list(rules.sitemaps)):
            return [self.site_at(sitemap) for sitemap in declared]
        guess = urljoin(base, "/sitemap.xml")
        try:
            answer = None if self.site.refusal(guess) else fetch_patiently(guess)
        except NoAnswer:
            answer = None
        if answer and answer.status == OK and not is_html(answer.body):
            return [self.site_at(guess)]
        if isinstance(start, Refused):
            raise ListingFailed(f"{address}: {start.reason}")
        if self.source.sitemap:  # most pages would seem to have vanished
            raise ListingFailed(f"The sitemap {self.source.sitemap}, which listed its pages before, cannot be found.")
        return []

    def site_at(self, sitemap: str) -> Site:
        site = site_for(self.source, self.stop, sitemap)
        site.rules, site.delay = self.site.rules, self.site.delay
        site.hosts |= self.site.hosts  # robots.txt may name a sitemap on another host
        return site

    def entries(self, sitemaps: Sequence[Site]) -> Iterator[Listed]:
        scope = Scope.of(self.source.address)
        is_empty = True
        for site in sitemaps:
            is_all_wanted = self.source.kind == Source.Kind.FEED or site.url == self.source.address
            for found in site.pages():
                if isinstance(found, Refused):
                    self.problems.append(found)
                    continue
                is_empty = False
                if (is_all_wanted or scope.contains(found)) and len(found) <= MAX_ADDRESS:
                    refused = site.refusal(found)
                    yield Listed(found, refused.reason if refused and not refused.hides_documents else "")
        if is_empty:
            if self.problems:
                raise ListingFailed(f"{self.problems[0].place}: {self.problems[0].reason}", is_transient=True)
            raise ListingFailed("It is empty.")

    def files(self) -> Iterator[Listed]:
        folder = folder_of(self.source)
        is_empty = True
        for found in files_in(folder):
            if isinstance(found, Path):
                is_empty = False
                yield Listed(found.relative_to(folder).as_posix())
            elif isinstance(found, Refused):
                self.problems.append(found)
        if is_empty:
            raise ListingFailed("The folder contains no files of a supported type.")


def site_for(source: Source, stop: threading.Event, address: str = "") -> Site:
    return Site(address or source.address, read_entries=partial(entries_in_sandbox, stop))


def entries_in_sandbox(stop: threading.Event, body: bytes, charset: str | None, base: str) -> Iterator[Link]:
    for found in read_in_sandbox(entries_of, body, charset, base, stop=stop):
        if isinstance(found, Link):
            yield found


def entries_of(body: bytes, charset: str | None, base: str) -> Iterator[Answer]:
    """Yield the entries of a sitemap or feed. Called in the sandbox."""
    return entries(body, charset, base)


@dataclass(frozen=True, slots=True)
class Scope:
    """The pages of a site that are below an address."""

    site: tuple[str, int | None]
    path: str  # that of a folder, with a slash at its end

    @classmethod
    def of(cls, address: str) -> "Scope":
        """Return the scope of a site's address: /docs and /docs/ are folders, and /docs/index.html is in one."""
        path = urlsplit(address).path
        folder, _slash, name = path.rpartition("/")
        return cls(site_of(address), f"{folder}/" if "." in name or not name else f"{path}/")

    def contains(self, address: str) -> bool:
        return site_of(address) == self.site and f"{urlsplit(address).path}/".startswith(self.path)


# Folders


def folder_of(source: Source) -> Path:
    """Return the folder of a source. Raise ListingFailed if it is not below SOURCES_FOLDER or does not exist."""
    try:
        return folder_at(source.address)
    except Unreadable as error:
        raise ListingFailed(str(error)) from None


def folder_at(name: str) -> Path:
    """Return the folder with this path below SOURCES_FOLDER. Raise Unreadable."""
    if not settings.SOURCES_FOLDER:
        raise Unreadable("Folders are turned off. Set SOURCES_FOLDER to allow those below a folder.")
    root = Path(settings.SOURCES_FOLDER)
    try:
        folder = (root / name).resolve()
        if is_within(folder, root) and folder.is_dir():
            return folder
    except (OSError, ValueError):
        pass
    raise Unreadable(f"There is no folder {name!r} in the folder for sources.")


def open_file(source: Source, name: str) -> int:
    """Return a file descriptor of a file in the source's folder. Raise OSError, also if it is not within the folder."""
    folder = folder_of(source)
    path = (folder / name).resolve(strict=True)  # without links
    if not path.is_relative_to(folder):
        raise PermissionError(1, "It is outside of the folder")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermissionError(1, "It is not a file")
    return descriptor
