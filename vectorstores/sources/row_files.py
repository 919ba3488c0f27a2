"""Read files in which every row is an item: JSON lines, JSON lists, CSV."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import ijson
import orjson

from vectorstores.extraction import Unreadable, detect
from vectorstores.ingestion.rows import Found, Note, Refused, Row, item_row

MAX_ITEM = 20 * 1024 * 1024  # bytes
MAX_DEPTH = 100  # of nested JSON
PIECE = 1024 * 1024  # bytes that are looked at together to find the encoding
UTF8_MARK = b"\xef\xbb\xbf"
DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a CSV file with a meaning of their own. The others become metadata."""

    content: str = "content"
    id: str = "id"
    title: str = "title"
    url: str = "url"


class BoundedItems:
    """A file whose items have a maximum size, because a single item could fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.item_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.item_bytes += len(data)
        if self.item_bytes > MAX_ITEM:
            raise Unreadable(f"An item is larger than {MAX_ITEM // 1024**2} MB.")
        return data

    def next_item(self) -> None:
        self.item_bytes = 0


def json_lines(file: BinaryIO, source: str, origin: str) -> Iterator[Found]:
    number = 0
    while line := file.readline(MAX_ITEM):
        number += 1
        place = f"{source}:{number}"
        if len(line) == MAX_ITEM and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_ITEM)) and not rest.endswith(b"\n"):
                pass
            yield Refused(place, f"The line is longer than {MAX_ITEM // 1024**2} MB.", True)
            continue
        line = line.removeprefix(UTF8_MARK).strip() if number == 1 else line.strip()
        if not line:
            continue
        try:
            item = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Refused(place, f"The line is not JSON: {error}.", True)
        else:
            yield item_row(item, place, source, origin)


def json_list(file: BinaryIO, source: str, origin: str) -> Iterator[Found]:
    """Yield the items of a list, or of an object with the list under "vectors", as in a call of the API."""
    start = file.read(1024)
    file.seek(len(UTF8_MARK) if start.startswith(UTF8_MARK) else 0)
    is_object = start.removeprefix(UTF8_MARK).lstrip().startswith(b"{")
    bounded = BoundedItems(file)
    number = 0
    try:
        events = limit_depth(ijson.basic_parse(bounded, use_float=True))
        for item in ijson.items(ijson.parse(events), "vectors.item" if is_object else "item"):
            number += 1
            bounded.next_item()
            yield item_row(item, f"{source}: item {number}", source, origin)
    except Unreadable as error:
        yield Refused(f"{source}: after item {number}", str(error), True)
    except (ijson.JSONError, UnicodeDecodeError, RecursionError, ValueError) as error:
        yield Refused(f"{source}: after item {number}", f"It is not JSON: {error}.", True)
    else:
        if not number:
            reason = 'It contains no items. Expected a list of items, or an object with a list under "vectors".'
            yield Refused(source, reason, True)


def limit_depth(events: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Raise Unreadable for deep nesting: ijson keeps the path of every level, so 100 KB of brackets take gigabytes."""
    depth = 0
    for event in events:
        if event[0] in ("start_map", "start_array"):
            depth += 1
        elif event[0] in ("end_map", "end_array"):
            depth -= 1
        if depth > MAX_DEPTH:
            raise Unreadable(f"It is nested more than {MAX_DEPTH} levels deep.")
        yield event


def csv_rows(file: BinaryIO, source: str, origin: str, columns: Columns, charset: str | None = None) -> Iterator[Found]:
    csv.field_size_limit(MAX_ITEM)
    encoding = detect(iter(lambda: file.read(PIECE), b""), charset)
    file.seek(0)
    if encoding.doubt:
        yield Note(source, encoding.doubt)
    with io.TextIOWrapper(file, encoding.name, errors=encoding.errors, newline="") as text:
        yield from records(text, source, origin, columns)


def records(text: io.TextIOWrapper, source: str, origin: str, columns: Columns) -> Iterator[Found]:
    lines = bounded_lines(text)
    header_line = next(lines, "")
    headers: list[list[str]] = [next(csv.reader([header_line], delimiter=delimiter), []) for delimiter in DELIMITERS]
    fits = [columns.content in header for header in headers]
    if not any(fits):
        widest: list[str] = max(headers, key=len)
        found = ", ".join(widest) or "none"
        yield Refused(source, f"It has no column {columns.content!r}. Its columns: {found}.", True)
        return
    at = fits.index(True)
    reader = csv.DictReader(lines, headers[at], delimiter=DELIMITERS[at])
    try:
        for record in reader:
            yield csv_row(record, f"{source}:{reader.line_num + 1}", source, origin, columns)
    except csv.Error as error:
        yield Refused(f"{source}:{reader.line_num + 1}", f"It is not CSV: {error}.", True)


def bounded_lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_ITEM):
        if len(line) == MAX_ITEM and not line.endswith(("\n", "\r")):
            raise csv.Error(f"a line is longer than {MAX_ITEM // 1024**2} MB")
        yield line.replace("\x00", "")


def csv_row(record: Mapping[Any, Any], place: str, source: str, origin: str, columns: Columns) -> Row | Refused:
    if None in record:
        return Refused(place, "It has more fields than the header has columns.", True)
    named = {columns.content, columns.id, columns.title, columns.url}
    metadata = {name: value for name, value in record.items() if name not in named and value}
    metadata |= {
        key: record[column] for key, column in (("title", columns.title), ("url", columns.url)) if record.get(column)
    }
    item = {"content": record[columns.content], "id": record.get(columns.id), "metadata": metadata}
    return item_row(item, place, source, origin)
