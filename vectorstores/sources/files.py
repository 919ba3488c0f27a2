"""What an import is told to read -> rows: files, folders, globs, URLs, sitemaps, standard input.

Rows come one by one, so that what is read may be larger than the memory.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from vectorstores.ingestion.extract import MEDIA_TYPES, media_type_of
from vectorstores.sources.row_files import Columns, csv_rows, json_lines, json_list
from vectorstores.sources.rows import Refused, Row, document_row, stable_id
from vectorstores.sources.web import host_and_port, is_url, page_row, sitemap_rows
from vectorstores.sources.wordpress import wordpress_rows

MAX_FILE = 100 * 1024 * 1024  # bytes of a file that is read whole: text, HTML, PDF
ROW_TYPES = (".jsonl", ".ndjson", ".json", ".csv", ".xml")


@dataclass
class Sources:
    """What to read, and how far it has come."""

    named: list[str]
    columns: Columns = field(default_factory=Columns)
    are_sitemaps: bool = False
    max_pages: int = 2000
    bytes_done: int = 0  # of the files that have been read to their end
    open_file: BinaryIO | None = None

    def bytes_known(self) -> int | None:
        """None if something is not a file."""
        if not all(is_on_disk(name) for name in self.named):
            return None
        found = [file for name in self.named for file in files(name) if isinstance(file, Path)]
        return sum(file.stat().st_size for file in found if file.is_file())

    def bytes_read(self) -> int:
        """May be asked in another thread than the one that reads."""
        try:
            return self.bytes_done + (self.open_file.tell() if self.open_file else 0)
        except ValueError:  # closed in this very moment
            return self.bytes_done

    def origins(self) -> list[str]:
        return [origin_of(name) for name in self.named]

    def rows(self) -> Iterator[Row | Refused]:
        for name in self.named:
            origin = origin_of(name)
            if name == "-":
                yield from json_lines(sys.stdin.buffer, "standard input", origin)
            elif is_url(name) and self.are_sitemaps:
                yield from sitemap_rows(name, self.max_pages)
            elif is_url(name):
                yield page_row(name, origin, host_and_port(name)[0])
            else:
                yield from self.rows_on_disk(name, origin)

    def rows_on_disk(self, name: str, origin: str) -> Iterator[Row | Refused]:
        is_empty = True
        for file in files(name):
            is_empty = False
            if isinstance(file, Refused):
                yield file
                continue
            try:
                yield from self.file(file, folder_of(name), origin)
            except OSError as error:
                yield Refused(str(file), f"It can't be read: {error.strerror}.", True)
        if is_empty:
            yield Refused(name, "There is nothing in it that can be read.", True)

    def file(self, path: Path, folder: Path, origin: str) -> Iterator[Row | Refused]:
        kind = path.suffix.lower()
        if kind in MEDIA_TYPES:
            yield self.document(path, folder, origin)
        elif kind in ROW_TYPES:
            with path.open("rb") as self.open_file:
                yield from self.rows_in(kind, self.open_file, str(path), origin)
            self.open_file = None
        else:
            endings = ", ".join([*MEDIA_TYPES, *ROW_TYPES])
            yield Refused(str(path), f"Files of this kind are not read; these are: {endings}.")
        self.bytes_done += path.stat().st_size

    def rows_in(self, kind: str, file: BinaryIO, source: str, origin: str) -> Iterator[Row | Refused]:
        if kind == ".csv":
            return csv_rows(file, source, origin, self.columns)
        return {".json": json_list, ".xml": wordpress_rows}.get(kind, json_lines)(file, source, origin)

    def document(self, path: Path, folder: Path, origin: str) -> Row | Refused:
        """Known by its folder's name and its path in it, so that it is the same one on another machine."""
        name = path.relative_to(folder).as_posix()
        key = f"{folder.resolve().name}/{name}"
        if path.stat().st_size > MAX_FILE:
            return Refused(str(path), f"It is larger than {MAX_FILE // 1024**2} MB.", document_id=stable_id(key))
        metadata = {"file_name": name}
        return document_row(path.read_bytes(), media_type_of(path.name), str(path), origin, key=key, metadata=metadata)


def is_on_disk(name: str) -> bool:
    return name != "-" and not is_url(name)


def origin_of(name: str) -> str:
    """What the documents of a source are known by at the next import."""
    return (os.path.abspath(name) if is_on_disk(name) else name)[:2000]


def files(name: str) -> Iterator[Path | Refused]:
    """In order. A name with the signs of a glob is one, unless there is a file of that very name."""
    path = Path(name)
    try:
        if "\x00" in name:
            yield Refused(name, "No file can have such a name.", True)
        elif path.is_dir():
            yield from files_in(path)
        elif path.exists() or not has_magic(name):
            yield path
        else:
            yield from (Path(found) for found in sorted(glob(name, recursive=True)) if Path(found).is_file())
    except OSError as error:
        yield Refused(name, f"It can't be read: {error.strerror}.", True)


def folder_of(name: str) -> Path:
    """What a source's files are in: of a glob, the part that has none of its signs."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        return path.parent
    return Path(*takewhile(lambda part: not has_magic(part), path.parent.parts))


def files_in(folder: Path) -> Iterator[Path | Refused]:
    """All that can be read, but nothing hidden, and nothing outside to which a link leads."""
    failures: list[OSError] = []
    real_folder = folder.resolve()
    for here, folders, names in os.walk(folder, onerror=failures.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here, name)
            known = path.suffix.lower() in (*MEDIA_TYPES, *ROW_TYPES) and not name.startswith(".")
            if known and path.is_file() and path.resolve().is_relative_to(real_folder):
                yield path
    for failure in failures:
        yield Refused(str(failure.filename), f"It can't be read: {failure.strerror}.", True)
