"""What an import is told to read -> rows: files, folders, globs, URLs, sitemaps, WordPress exports, standard input.

Rows come one by one, so that what is read may be larger than the memory.
"""

import csv
import gzip
import hashlib
import io
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import ijson
import orjson
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring, iterparse
from protego import Protego

from puffer.http import USER_AGENT, NoAnswer
from puffer.web_pages import Page, fetch
from vectorstores.extract import MEDIA_TYPES, Extracted, Unreadable, decode, extract, from_html, media_type_of

MAX_FILE = 100 * 1024 * 1024  # bytes of a file that is read whole: text, HTML, PDF
MAX_LINE = 20 * 1024 * 1024  # bytes of a row
MAX_SITEMAP = 50 * 1024 * 1024  # bytes unpacked, as sitemaps.org allows
DELAY, LONGEST_DELAY = 0.2, 10.0  # seconds between two pages of a site
ROW_TYPES = (".jsonl", ".ndjson", ".json", ".csv", ".xml")
NOT_IN_SLUGS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Row:
    """An item as the API takes it: content, id, metadata, uri. `extracted` is there for a document, whose structure is
    known; `values` for a chunk that brings its vector. `place` tells a person where it was found."""

    item: Mapping[str, Any]
    place: str
    source: str
    origin: str
    extracted: Extracted | None = None
    values: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """What could not be read, and why. `is_whole_source`: nobody knows what else would have come."""

    place: str
    reason: str
    is_whole_source: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a CSV file hold what; "" for none. The others become metadata."""

    content: str = "content"
    id: str = "id"
    title: str = "title"
    url: str = "url"


@dataclass
class Sources:
    """What to read, and how far it has come: `bytes_read` of `bytes_known`, as far as these can be known."""

    named: list[str]
    columns: Columns = field(default_factory=Columns)
    are_sitemaps: bool = False
    max_pages: int = 2000
    bytes_read: int = 0

    def bytes_known(self) -> int | None:
        """None if something is not a file."""
        sizes = [path.stat().st_size for name in self.named for path in self.files(name) if path.is_file()]
        return sum(sizes) if all(self.is_on_disk(name) for name in self.named) else None

    def is_on_disk(self, name: str) -> bool:
        return name != "-" and not is_url(name)

    def origin_of(self, name: str) -> str:
        """What the documents of a source are known by at the next import."""
        return str(Path(name).absolute()) if self.is_on_disk(name) else name

    def files(self, name: str) -> list[Path]:
        """Sorted. Of a folder all that can be read, but nothing hidden and nothing outside it."""
        if not self.is_on_disk(name):
            return []
        path = Path(name)
        if path.is_dir():
            return sorted(found for found in path.rglob("*") if is_readable_in(path, found))
        if path.exists() or not any(sign in name for sign in "*?["):
            return [path]
        return (
            sorted(found for found in Path().glob(name) if found.is_file())
            if not path.is_absolute()
            else sorted(
                found for found in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if found.is_file()
            )
        )

    def rows(self) -> Iterator[Row | Refused]:
        for name in self.named:
            origin = self.origin_of(name)
            if name == "-":
                yield from self.json_lines(sys.stdin.buffer, "standard input", origin)
            elif is_url(name):
                yield from self.sitemap(name) if self.are_sitemaps else self.page(name, origin, host_of(name))
            else:
                files = self.files(name)
                if not files:
                    yield Refused(name, "There is nothing in it that can be read.", True)
                for path in files:
                    yield from self.file(path, Path(name), origin)

    # Files

    def file(self, path: Path, root: Path, origin: str) -> Iterator[Row | Refused]:
        place = str(path)
        try:
            kind = path.suffix.lower()
            size = path.stat().st_size
            before = self.bytes_read
            if kind in ROW_TYPES:
                with path.open("rb") as file:
                    yield from self.rows_in(kind, file, place, origin)
            elif kind in MEDIA_TYPES:
                yield self.document(path, root, origin, size)
            else:
                endings = ", ".join([*MEDIA_TYPES, *ROW_TYPES])
                yield Refused(place, f"Files of this kind are not read; these are: {endings}.", True)
            self.bytes_read = before + size
        except OSError as error:
            yield Refused(place, f"It can't be read: {error.strerror}.", True)

    def document(self, path: Path, root: Path, origin: str, size: int) -> Row | Refused:
        if size > MAX_FILE:
            return Refused(str(path), f"It is larger than {MAX_FILE // 1024**2} MB.")
        name = path.relative_to(root).as_posix() if root.is_dir() else path.name
        return document_row(
            path.read_bytes(), media_type_of(path.name), str(path), origin, key=name, metadata={"file_name": name}
        )

    def rows_in(self, kind: str, file: BinaryIO, place: str, origin: str) -> Iterator[Row | Refused]:
        readers: dict[str, Callable[[BinaryIO, str, str], Iterator[Row | Refused]]] = {
            ".json": self.json_list,
            ".csv": self.csv_rows,
            ".xml": self.wordpress_export,
        }
        yield from readers.get(kind, self.json_lines)(file, place, origin)

    def json_lines(self, file: BinaryIO, source: str, origin: str) -> Iterator[Row | Refused]:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            self.bytes_read += len(line)
            place = f"{source}:{number}"
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield Refused(place, f"The line is longer than {MAX_LINE // 1024**2} MB.")
            elif line.strip():
                try:
                    item = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    yield Refused(place, f"The line is not JSON: {error}.")
                else:
                    yield item_row(item, place, source, origin)

    def json_list(self, file: BinaryIO, source: str, origin: str) -> Iterator[Row | Refused]:
        """A list, or an object with the list under "vectors", as a call of the API has it."""
        beginning = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
        file.seek(3 if file.seek(0) == 0 and file.read(3) == b"\xef\xbb\xbf" else 0)
        prefix = "vectors.item" if beginning.startswith(b"{") else "item"
        number = 0
        try:
            for item in ijson.items(file, prefix, use_float=True):
                number += 1
                self.bytes_read = max(self.bytes_read, file.tell())
                yield item_row(item, f"{source}: item {number}", source, origin)
        except (ijson.JSONError, UnicodeDecodeError, RecursionError) as error:
            yield Refused(f"{source}: after item {number}", f"It is not JSON: {error}.", True)
        if not number:
            yield Refused(source, 'It holds no list of items, nor an object with one under "vectors".', True)

    def csv_rows(self, file: BinaryIO, source: str, origin: str) -> Iterator[Row | Refused]:
        csv.field_size_limit(MAX_LINE)
        sample = file.read(64 * 1024)
        file.seek(0)
        encoding = "utf-8-sig" if is_utf8(sample) else "cp1252"
        lines = io.TextIOWrapper(file, encoding, errors="replace", newline="")
        try:
            dialect: Any = csv.Sniffer().sniff(decode(sample), delimiters=",;\t|")
        except csv.Error:
            dialect = csv.excel
        reader = csv.DictReader((line.replace("\x00", "") for line in lines), dialect=dialect)
        if self.columns.content not in (reader.fieldnames or []):
            named = ", ".join(reader.fieldnames or []) or "none"
            yield Refused(
                source, f"It has no column {self.columns.content!r} (--content-column). Its columns: {named}.", True
            )
            return
        try:
            for record in reader:
                self.bytes_read += sum(len(value) for value in record.values() if isinstance(value, str))
                yield self.csv_row(record, f"{source}:{reader.line_num}", source, origin)
        except csv.Error as error:
            yield Refused(f"{source}:{reader.line_num}", f"It is not CSV: {error}.", True)

    def csv_row(self, record: Mapping[str, Any], place: str, source: str, origin: str) -> Row | Refused:
        named = {self.columns.content, self.columns.id, self.columns.title, self.columns.url}
        metadata = {name: value for name, value in record.items() if name not in named and isinstance(value, str)}
        metadata |= {
            key: record[column]
            for key, column in (("title", self.columns.title), ("url", self.columns.url))
            if record.get(column)
        }
        item = {"content": record[self.columns.content] or "", "metadata": metadata}
        if record.get(self.columns.id):
            item["id"] = record[self.columns.id]
        return item_row(item, place, source, origin)

    def wordpress_export(self, file: BinaryIO, source: str, origin: str) -> Iterator[Row | Refused]:
        """Published posts and pages. Entities and external files are refused by the parser."""
        number = 0
        try:
            for _, element in iterparse(file, events=("end",), forbid_dtd=True):
                if local_name(element.tag) != "item":
                    continue
                number += 1
                self.bytes_read = max(self.bytes_read, file.tell())
                fields = {local_name(child.tag): child.text or "" for child in element if "excerpt" not in child.tag}
                element.clear()
                if fields.get("status") == "publish" and fields.get("post_type") in ("post", "page"):
                    yield wordpress_row(fields, f"{source}: item {number}", source, origin)
        except (ParseError, DefusedXmlException) as error:
            yield Refused(f"{source}: after item {number}", f"It is no XML that may be read: {error}.", True)
            return
        if not number:
            yield Refused(source, "It is no export of WordPress: it has no items.", True)

    # The web

    def page(self, url: str, origin: str, trusted_host: str) -> Iterator[Row | Refused]:
        try:
            page = fetch(url, trusted_host=trusted_host)
            if page.status != 200:
                raise Unreadable(f"It answered with HTTP {page.status}.")
            yield page_row(page, origin)
        except NoAnswer as error:
            yield Refused(url, f"It {error}", True)
        except Unreadable as error:
            yield Refused(url, str(error), True)

    def sitemap(self, url: str) -> Iterator[Row | Refused]:
        """The pages that a sitemap names, of its own host, as far as robots.txt allows, one after the other."""
        host = host_of(url)
        try:
            robots = read_robots(url)
            pages = list(pages_of_sitemap(url, host, self.max_pages))
        except (NoAnswer, Unreadable) as error:
            yield Refused(url, f"The sitemap {error}", True)
            return
        delay = min(robots.crawl_delay(USER_AGENT) or DELAY, LONGEST_DELAY)
        if len(pages) == self.max_pages:
            yield Refused(url, f"Only the first {self.max_pages} pages are read (--max-pages).", True)
        for address in pages:
            if robots.can_fetch(address, USER_AGENT):
                yield from self.page(address, url, host)
                time.sleep(delay)
            else:
                yield Refused(address, "The site's robots.txt does not allow it.")


def is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_readable_in(folder: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    known = path.suffix.lower() in MEDIA_TYPES or path.suffix.lower() in ROW_TYPES
    return known and not hidden and path.is_file() and path.resolve().is_relative_to(folder.resolve())


def is_utf8(sample: bytes) -> bool:
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(sample) - 4  # cut within a character
    return True


def local_name(tag: str) -> str:
    return tag.rpartition("}")[2]


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]


def stable_id(key: str) -> str:
    """The same for the same file, page or text at every import, and readable."""
    slug = NOT_IN_SLUGS.sub("-", key.lower()).strip("-")[-50:].strip("-")
    return f"{slug}-{short_hash(key)}" if slug else short_hash(key)


def item_row(item: Any, place: str, source: str, origin: str) -> Row | Refused:
    """A row that has an item's keys. Without an id it is known by its URI, else by its text: then a changed text is
    another document."""
    if not isinstance(item, dict):
        return Refused(place, "It is no JSON object.")
    content, metadata = item.get("content"), item.get("metadata")
    if not isinstance(content, str) or not content.replace("\x00", "").strip():
        return Refused(place, 'It has no text under "content".')
    if metadata is not None and not isinstance(metadata, dict):
        return Refused(place, '"metadata" is no JSON object.')
    if not isinstance(item.get("id", ""), str | int) or not isinstance(item.get("uri") or "", str):
        return Refused(place, '"id" and "uri" must be texts.')
    values = item.get("values")
    if values is not None and not (isinstance(values, list) and values and item.get("id")):
        return Refused(place, '"values" must be a list of numbers, and such a row needs an id.')
    given = {"content": content, "metadata": metadata or {}, "uri": item.get("uri") or None}
    own_id = item.get("id") or (metadata or {}).get("parent_vector_id") or (metadata or {}).get("id")
    if not own_id:
        own_id = stable_id(str(given["uri"])) if given["uri"] else f"text-{short_hash(content)}"
    return Row({**given, "id": str(own_id)}, place, source, origin, values=values)


def document_row(
    data: bytes,
    media_type: str,
    source: str,
    origin: str,
    *,
    key: str,
    metadata: Mapping[str, Any],
    charset: str | None = None,
) -> Row | Refused:
    try:
        extracted = extract(data, media_type, charset)
    except Unreadable as error:
        return Refused(source, str(error))
    if not extracted.text:
        return Refused(source, "It is empty.")
    title = extracted.title or Path(key).stem
    item = {"content": extracted.text, "id": stable_id(key), "metadata": {"title": title, **metadata}}
    return Row(item, source, source, origin, extracted)


def page_row(page: Page, origin: str) -> Row | Refused:
    media_type = page.media_type or "text/html"
    if media_type not in {*MEDIA_TYPES.values(), "application/xhtml+xml"}:
        return Refused(page.url, f"Pages of the type {media_type[:100]} are not read.")
    metadata = {"url": page.url}
    return document_row(page.body, media_type, page.url, origin, key=page.url, metadata=metadata, charset=page.charset)


def wordpress_row(fields: Mapping[str, str], place: str, source: str, origin: str) -> Row | Refused:
    content = fields.get("encoded", "")
    try:
        extracted = from_html(f"<html><body><article>{content}</article></body></html>")
    except Unreadable as error:
        return Refused(place, str(error))
    if not extracted.text:
        return Refused(place, "The post has no text.")
    url, title = fields.get("link", ""), fields.get("title", "").strip()
    metadata = {"title": title or extracted.title, "url": url, "post_type": fields["post_type"]}
    key = fields.get("post_id") or url
    item = {"content": extracted.text, "id": f"post-{key}" if key else stable_id(title), "metadata": metadata}
    return Row(item, place, source, origin, extracted)


# Sitemaps. Source: https://www.sitemaps.org/protocol.html


def read_robots(url: str) -> Protego:
    parts = urlsplit(url)
    try:
        page = fetch(f"{parts.scheme}://{parts.netloc}/robots.txt", trusted_host=host_of(url), max_bytes=512 * 1024)
    except NoAnswer:
        return Protego.parse("")
    return Protego.parse(decode(page.body) if page.status == 200 else "")


def pages_of_sitemap(url: str, host: str, limit: int) -> Iterator[str]:
    """Each once. An index of sitemaps is followed; what is on another host is not."""
    waiting, seen, found = [url], {url}, 0
    while waiting:
        here = fetch(waiting.pop(0), trusted_host=host)
        if here.status != 200:
            raise Unreadable(f"answered with HTTP {here.status}.")
        try:
            root = fromstring(unpacked(here.body), forbid_dtd=True)
        except (ParseError, DefusedXmlException, OSError, EOFError) as error:
            raise Unreadable(f"is no XML that may be read: {error}.") from error
        is_index = local_name(root.tag) == "sitemapindex"
        for entry in root:
            address = next((child.text or "" for child in entry if local_name(child.tag) == "loc"), "").strip()
            if not is_url(address) or host_of(address) != host or address in seen:
                continue
            seen.add(address)
            if is_index:
                waiting.append(address)
            elif found < limit:
                found += 1
                yield address


def unpacked(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        data = file.read(MAX_SITEMAP + 1)
    if len(data) > MAX_SITEMAP:
        raise Unreadable(f"is larger than {MAX_SITEMAP // 1024**2} MB.")
    return data
