"""Read the sources of an import: files, folders, globs, URLs, sitemaps, standard input.

Rows are yielded one by one, so that a source may be larger than the memory.
"""

import io
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from puffer.net import Page
from vectorstores.extraction import MEDIA_TYPES, media_type_of
from vectorstores.ingestion.rows import File, Found, Note, Refused, Row, file_row, stable_id
from vectorstores.sources.columns import Columns
from vectorstores.sources.row_files import json_rows
from vectorstores.sources.sitemap import sitemap_rows
from vectorstores.sources.tables import csv_rows
from vectorstores.sources.web import file_name, is_url, page_row, read_page
from vectorstores.sources.wordpress import wordpress_rows

MAX_FILE = 100 * 1024 * 1024  # bytes of a file that is read as a whole: text, HTML, PDF
TABLE_TYPES = (".csv", ".tsv")
ROW_TYPES = (".jsonl", ".ndjson", ".json", *TABLE_TYPES, ".xml")
SHOWN_NAMES = 10  # of the files in a folder that were skipped
ROW_MEDIA_TYPES = {
    "text/csv": ".csv", "application/csv": ".csv", "text/x-csv": ".csv", "text/tab-separated-values": ".tsv",
    "application/json": ".json", "text/json": ".json",
    "application/x-ndjson": ".jsonl", "application/jsonl": ".jsonl",
}  # fmt: skip
# Media types with which the file's name counts. Windows names CSV files after Excel.
ROW_CARRIERS = ("", "text/plain", "application/octet-stream", "application/vnd.ms-excel", "application/x-download",
                "application/force-download", "binary/octet-stream")  # fmt: skip
SUPPORTED_TYPES = (*MEDIA_TYPES, *ROW_TYPES)  # file name extensions


@dataclass
class Sources:
    """The sources of an import, and how many bytes of them have been read."""

    names: list[str]
    columns: Columns = field(default_factory=Columns)
    are_sitemaps: bool = False
    max_pages: int = 2000
    post_types: Collection[str] = ()  # of WordPress, in addition to posts and pages
    encoding: str | None = None  # None: recognize it
    bytes_done: int = 0  # of the files that have been read to their end
    open_file: BinaryIO | None = None

    def total_bytes(self) -> int | None:
        """Return the size of all sources; None if one of them is not a file."""
        if not all(is_on_disk(name) for name in self.names):
            return None
        found = [file for name in self.names for file in files(name) if isinstance(file, Path)]
        return sum(file.stat().st_size for file in found if file.is_file())

    def bytes_read(self) -> int:
        """Return how many bytes have been read. May be called from another thread than the one that reads."""
        try:
            return self.bytes_done + (self.open_file.tell() if self.open_file else 0)
        except ValueError:  # the file was closed at this very moment
            return self.bytes_done

    def origins(self) -> list[str]:
        return [origin_of(name) for name in self.names]

    def rows(self) -> Iterator[Found]:
        for name in self.names:
            origin = origin_of(name)
            if name == "-":
                yield from self.rows_of_standard_input(origin)
            elif is_url(name) and self.are_sitemaps:
                yield from sitemap_rows(name, self.max_pages, self.encoding)
            elif is_url(name):
                yield from self.rows_at(name, origin)
            else:
                yield from self.rows_on_disk(name, origin)

    def rows_at(self, url: str, origin: str) -> Iterator[Found]:
        """Read a page, or the rows of a file on the web."""
        page = read_page(url)
        if isinstance(page, Refused):
            yield page
        else:
            yield from self.rows_of_page(page, origin)

    def rows_of_page(self, page: Page, origin: str) -> Iterator[Found]:
        suffix = Path(file_name(page)).suffix.lower()
        media_type = "application/json" if page.media_type.endswith("+json") else page.media_type
        suffix = ROW_MEDIA_TYPES.get(media_type, suffix if media_type in ROW_CARRIERS else "")
        if suffix in ROW_TYPES and suffix != ".xml":
            yield from self.rows_in(suffix, io.BytesIO(page.body), page.url, origin, page.charset)
        else:
            yield page_row(page, origin, self.encoding)

    def rows_of_standard_input(self, origin: str) -> Iterator[Found]:
        with TemporaryFile() as copy:  # detecting the encoding requires the whole input
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.seek(0)
            yield from json_rows(copy, "standard input", origin, self.encoding, has_lines=True)

    def rows_on_disk(self, name: str, origin: str) -> Iterator[Found]:
        is_empty = True
        for file in files(name):
            is_empty &= isinstance(file, Note)
            if not isinstance(file, Path):
                yield file
                continue
            try:
                yield from self.rows_of_file(file, folder_of(name), origin)
            except OSError as error:
                yield Refused(str(file), f"It cannot be read: {error.strerror}.", True)
        if is_empty:
            yield Refused(name, "It contains no files of a supported type.", True)

    def rows_of_file(self, path: Path, folder: Path, origin: str) -> Iterator[Found]:
        suffix = path.suffix.lower()
        if suffix in MEDIA_TYPES:
            yield self.whole_file(path, folder, origin)
        elif suffix in ROW_TYPES:
            with path.open("rb") as self.open_file:
                yield from self.rows_in(suffix, self.open_file, str(path), origin)
            self.open_file = None
        else:
            yield Refused(str(path), f"This file type is not supported. Supported types: {', '.join(SUPPORTED_TYPES)}.")
        self.bytes_done += path.stat().st_size

    def rows_in(
        self, suffix: str, file: BinaryIO, source: str, origin: str, charset: str | None = None
    ) -> Iterator[Found]:
        """Yield the rows of a file. `charset` is what a server declared."""
        encoding = self.encoding or charset
        if suffix in TABLE_TYPES:
            return csv_rows(file, source, origin, self.columns, encoding)
        if suffix == ".xml":
            return wordpress_rows(file, source, origin, self.post_types, encoding)
        return json_rows(file, source, origin, encoding, has_lines=suffix != ".json")

    def whole_file(self, path: Path, folder: Path, origin: str) -> Row | Refused:
        """Return the row of a file, identified by its folder's name and its path in it, as on any other machine."""
        name = path.relative_to(folder).as_posix()
        key = f"{folder.resolve().name}/{name}"
        if path.stat().st_size > MAX_FILE:
            return Refused(str(path), f"It is larger than {MAX_FILE // 1024**2} MB.", document_id=stable_id(key))
        file = File(path.read_bytes(), media_type_of(path.name), self.encoding, default_title=path.stem)
        return file_row(file, str(path), origin, key=key, metadata={"file_name": name})


def is_on_disk(name: str) -> bool:
    return name != "-" and not is_url(name)


def origin_of(name: str) -> str:
    """Return the name by which the next import finds the documents of this source."""
    return (os.path.abspath(name) if is_on_disk(name) else name)[:2000]


def files(name: str) -> Iterator[Path | Refused | Note]:
    """Yield the files of a source, in order. A name with glob characters is a glob unless a file has that very name.

    Links in a folder or a glob that lead out of its folder are not followed.
    """
    path = Path(name)
    try:
        if "\x00" in name:
            yield Refused(name, "This is not a valid file name.", True)
        elif path.is_dir():
            yield from files_in(path)
        elif path.exists() or not has_magic(name):
            yield path
        else:
            found = [Path(name) for name in sorted(glob(name, recursive=True)) if Path(name).is_file()]
            outside = [path for path in found if not is_within(path, folder_of(name))]
            yield from (path for path in found if path not in set(outside))
            if outside:
                yield Note(name, f"Links that lead out of the folder were skipped: {names_of(outside)}.")
    except OSError as error:
        yield Refused(name, f"It cannot be read: {error.strerror}.", True)


def folder_of(name: str) -> Path:
    """Return the folder that contains a source's files: for a glob, the part without glob characters."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        return path.parent
    return Path(*takewhile(lambda part: not has_magic(part), path.parent.parts))


def is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def names_of(paths: Sequence[Path]) -> str:
    """Return the number of files and the first names, such as "2: a.png, b.zip"."""
    shown = ", ".join(str(path) for path in paths[:SHOWN_NAMES])
    return f"{len(paths)}: {shown}{', …' if len(paths) > SHOWN_NAMES else ''}"


def files_in(folder: Path) -> Iterator[Path | Refused | Note]:
    """Yield all files of supported types but hidden ones, then what was skipped."""
    failures: list[OSError] = []
    unsupported: list[Path] = []
    outside: list[Path] = []
    for here, folders, names in os.walk(folder, onerror=failures.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        outside += [Path(here, name).relative_to(folder) for name in folders if not is_within(Path(here, name), folder)]
        for name in sorted(names):
            path = Path(here, name)
            if name.startswith("."):
                continue
            if not is_within(path, folder):
                outside.append(path.relative_to(folder))
            elif path.suffix.lower() not in SUPPORTED_TYPES:
                unsupported.append(path.relative_to(folder))
            elif path.is_file():
                yield path
    if unsupported:
        yield Note(str(folder), f"Files of unsupported types were skipped: {names_of(unsupported)}.")
    if outside:
        yield Note(str(folder), f"Links that lead out of the folder were skipped: {names_of(outside)}.")
    for failure in failures:
        yield Refused(str(failure.filename), f"It cannot be read: {failure.strerror}.", True)
