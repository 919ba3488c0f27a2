"""Read JSON files in which every row is an item: one per line, a list, or one object after another."""

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

import ijson
import orjson

from vectorstores.extraction import Unreadable, detect
from vectorstores.ingestion.rows import Found, Note, Refused, Row, item_row
from vectorstores.sources.columns import Columns, Layout, NoContentColumn

MAX_ITEM = 20 * 1024 * 1024  # bytes
MAX_WHOLE = 100 * 1024 * 1024  # bytes of a list that is parsed at once, because it is not strictly JSON
MAX_DEPTH = 100  # of nested JSON
# The names under which APIs and exports have their items. A list under another name may be anything.
WRAPPERS = {
    "data",
    "items",
    "results",
    "records",
    "rows",
    "entries",
    "documents",
    "posts",
    "pages",
    "articles",
    "value",
}
MAX_WRAPPED = 5  # levels of objects around the items of a file
PIECE = 1024 * 1024  # bytes that are looked at together to find the encoding
UTF8_MARK = b"\xef\xbb\xbf"
API_KEYS = {"id", "content", "metadata", "uri", "values", "embedding_provider", "embedding_model"}


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


def json_rows(
    file: BinaryIO, source: str, origin: str, charset: str | None = None, *, has_lines: bool = False
) -> Iterator[Found]:
    """Yield the rows of a JSON file. `has_lines` is what its name says, but its content decides."""
    encoding = detect(iter(lambda: file.read(PIECE), b""), charset)
    file.seek(0)
    if encoding.doubt:
        yield Note(source, encoding.doubt)
    if (encoding.name, encoding.doubt) == ("utf-8", ""):
        yield from rows_of_utf8(file, source, origin, has_lines)
        return
    with TemporaryFile() as copy:
        pieces = iter(lambda: file.read(PIECE), b"")
        copy.writelines(text.encode() for text in codecs.iterdecode(pieces, encoding.name, encoding.errors))
        copy.seek(0)
        yield from rows_of_utf8(cast(BinaryIO, copy), source, origin, has_lines)


def rows_of_utf8(file: BinaryIO, source: str, origin: str, has_lines: bool) -> Iterator[Found]:
    lines = filter(None, (line.strip() for line in iter(lambda: file.readline(MAX_ITEM), b"")))
    first, second = next(lines, b""), next(lines, b"")
    file.seek(0)
    value = parsed(first.rstrip(b","))
    if has_lines:  # a row may be faulty, but after a line that ends like this, more lines of the same value follow
        is_lines = value is not None or not first.endswith((b"{", b"[", b","))
    else:
        is_lines = bool(second) and isinstance(value, dict) and "vectors" not in value
    if is_lines and not first:
        yield Refused(source, "It contains no rows.", True)
    elif is_lines:
        yield from json_lines(file, source, origin)
    else:
        yield from json_items(file, source, origin, ["item"] if first.startswith(b"[") else ["vectors.item", ""])


def parsed(line: bytes) -> Any:
    """Return a value; None for what is not JSON."""
    try:
        return loads(line)
    except ValueError:
        return None


def loads(data: bytes) -> Any:
    """Parse a row of JSON. Raise ValueError."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return loads_as_written(data)
    is_rounded = isinstance(value, list) or (isinstance(value, dict) and isinstance(value.get("id"), float))
    return loads_as_written(data) if is_rounded else value  # orjson rounds long integers, such as ids


def loads_as_written(data: bytes) -> Any:
    """Parse JSON as Python and JavaScript write it: with NaN, halves of surrogate pairs and integers of any length.

    NaN and infinities become null. Raise ValueError.
    """
    try:
        return json.loads(data.decode(errors="replace"), strict=False, parse_constant=lambda name: None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
        line = line.removeprefix(UTF8_MARK).strip()  # also within a file that was made of several
        if not line:
            continue
        try:
            item = loads(line.removesuffix(b","))
        except ValueError as error:
            yield Refused(place, f"The line is not JSON: {error}.", True)
        else:
            for each in item if isinstance(item, list) and all(isinstance(entry, dict) for entry in item) else [item]:
                yield object_row(each, place, source, origin)


def json_items(file: BinaryIO, source: str, origin: str, prefixes: list[str]) -> Iterator[Found]:
    """Yield the items of a list, of the list under "vectors", as in a call of the API, or objects in a row.

    `prefixes` are the places in the file, in ijson's notation, that are tried until one has items.
    """
    number = 0
    failure = ""
    rest: list[Any] = []
    for prefix in prefixes:
        try:
            bounded = BoundedItems(file)
            file.seek(0)
            events = limit_depth(ijson.basic_parse(bounded, use_float=True, multiple_values=not prefix))
            items = ijson.items(ijson.parse(events), prefix)
            for item in items if prefix else documents_among(items):
                number += 1
                bounded.next_item()
                yield object_row(item, f"{source}: item {number}", source, origin)
        except Unreadable as error:
            failure = str(error)
        except (ijson.JSONError, UnicodeDecodeError, RecursionError, ValueError) as error:
            failure = f"It is not JSON: {' '.join(str(error).split())}."
            rest = items_read_at_once(file, number)
        else:
            failure = ""
        if number or rest:
            break
    for item in rest:
        number += 1
        failure = ""
        yield object_row(item, f"{source}: item {number}", source, origin)
    if failure:
        yield Refused(f"{source}: after item {number}", failure, True)
    elif not number:
        reason = 'It contains no items. Expected a list of items, or an object with a list under "vectors" or "data".'
        yield Refused(source, reason, True)


def items_read_at_once(file: BinaryIO, read: int) -> list[Any]:
    """Return the items after the first `read`, from a list that is JSON except for NaN or long integers."""
    file.seek(0)
    data = file.read(MAX_WHOLE + 1)
    value = parsed(data) if len(data) <= MAX_WHOLE else None
    if isinstance(value, dict):
        value = value["vectors"] if "vectors" in value else list(documents_within(value))
    return value[read:] if isinstance(value, list) else []


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


def documents_among(values: Iterator[Any]) -> Iterator[Any]:
    """Yield the values of a file. A single one is a document if it has a text, and has others in its lists."""
    first, second = next(values, None), next(values, None)
    if second is not None or not isinstance(first, dict):
        yield from (value for value in (first, second) if value is not None and second is not None)
        yield from values
    else:
        yield from documents_within(first)


def documents_within(value: Any, depth: int = MAX_WRAPPED) -> Iterator[Any]:
    """Yield an object with a text, and the lists of such objects within it: {"data": {"items": [...]}}.

    All of a list is yielded if one of its objects has a text, so that the others are told.
    """
    if not isinstance(value, dict) or not depth:
        return
    if has_text(value):
        yield value
    for name, entries in value.items():
        if name.lower() not in WRAPPERS:
            continue
        if isinstance(entries, dict):
            yield from (found for found in documents_within(entries, depth - 1) if found is not entries)
        elif isinstance(entries, list) and any(map(has_text, entries)):
            yield from entries
        elif isinstance(entries, list):
            for entry in entries:
                yield from documents_within(entry, depth - 1)


def has_text(value: Any) -> bool:
    """Return whether a value is an object with a text under one of the usual names."""
    layout = layout_of(value) if isinstance(value, dict) else None
    return layout is not None and bool(as_text(value[layout.names[layout.roles["content"]]]).strip())


def layout_of(item: Mapping[str, Any]) -> Layout | None:
    """Return which keys of an object have which meaning; None if none of them holds a text."""
    names = [name for name in item if name not in API_KEYS - {"id", "content"}]
    try:
        return Layout.of(names, Columns(content="content" if "content" in item else ""))
    except NoContentColumn:
        return None


def object_row(item: Any, place: str, source: str, origin: str) -> Found:
    """Return the row of an object: an item of the API, or one that names its text and title differently.

    Keys that the API does not know become metadata and lines below the text, like the columns of a table.
    """
    if not isinstance(item, dict) or item.get("values") is not None or not item.keys() - API_KEYS:
        return item_row(item, place, source, origin)
    layout = layout_of(item)
    if layout is None:
        return item_row(item, place, source, origin)
    values = ["" if name.startswith("_") else as_text(item[name]) for name in layout.names]
    if not isinstance(item[layout.names[layout.roles["content"]]], str) and not layout.value("content", values):
        return item_row(item, place, source, origin)
    if layout.is_unpublished(values):
        return Note(place, "It is a draft or not published. It was left out.", left_out=1)
    row = layout.row(values, place, source, origin)
    metadata = item.get("metadata") or {}
    if not isinstance(row, Row) or not isinstance(metadata, dict):
        return item_row(item, place, source, origin) if isinstance(row, Row) else row
    own = {name: item[name] for name in item.keys() & row.item["metadata"].keys() if not isinstance(item[name], dict)}
    known = {**row.item["metadata"], **own, **metadata}
    given = {**item, "content": row.item["content"], "metadata": known}
    given["id"] = item[layout.names[layout.roles["id"]]] if "id" in layout.roles else row.item["id"]
    made = item_row(given, place, source, origin)
    return replace(made, facts=row.facts) if isinstance(made, Row) else made


def as_text(value: Any) -> str:
    """Return a value as it is shown below a text: an object of texts and numbers as "color: red, size: 5"."""
    if isinstance(value, dict):
        if isinstance(value.get("rendered"), str):  # what the REST API of WordPress shows of a title or text
            return str(value["rendered"])
        named = [(name, as_text(entry)) for name, entry in value.items() if not isinstance(entry, dict | list)]
        return ", ".join(f"{name}: {text}" for name, text in named if text) if len(named) == len(value) else ""
    if isinstance(value, list):
        joint = "; " if any(isinstance(entry, dict) for entry in value) else ", "
        return joint.join(filter(None, (as_text(entry) for entry in value if not isinstance(entry, list))))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, str | int | float) else ""
