"""Read CSV files: rows of text with any delimiter, encoding and order of columns."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from vectorstores.extraction import Unreadable, detect
from vectorstores.ingestion.rows import Found, Note, Refused, Row
from vectorstores.sources.columns import Columns, Layout, NoContentColumn, fact, list_of_columns

MAX_RECORD = 20 * 1024 * 1024  # characters
MAX_RECORD_AFTER_FAULT = 64 * 1024  # so that a file full of stray quotation marks is not read again and again
PIECE = 1024 * 1024  # bytes per step of detecting the encoding
DELIMITERS = ",;\t|"
NO_DELIMITER = "\x1f"
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # the first line for Excel
MAX_LINES_ABOVE = 10  # the header
NOT_CLOSED = "A quotation mark is opened and not closed, or not followed by a delimiter."


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of a row that begins in line `line`, or the reason why they cannot be separated."""

    line: int
    fields: Sequence[str]
    fault: str = ""

    @property
    def is_empty(self) -> bool:
        return not self.fault and not any(field.strip() for field in self.fields)


class Lines:
    """The lines of a file, some of which may be put back."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.text = text
        self.put_back: deque[str] = deque()
        self.number = 0  # of the line that was taken last

    def take(self) -> str:
        """Return the next line, "" at the end. Raise Unreadable for a line that is too long, and skips it."""
        line = self.put_back.popleft() if self.put_back else self.text.readline(MAX_RECORD).replace("\x00", "")
        if len(line) >= MAX_RECORD and not line.endswith(("\n", "\r")):
            while (rest := self.text.readline(MAX_RECORD)) and not rest.endswith(("\n", "\r")):
                pass
            self.number += 1
            raise Unreadable(f"A line is longer than {MAX_RECORD // 1024**2} MB.")
        self.number += bool(line)
        return line

    def put(self, lines: Sequence[str]) -> None:
        self.put_back.extendleft(reversed(lines))
        self.number -= len(lines)


class Reader:
    """A reader of records that continues after a row with faulty quotation marks."""

    def __init__(self, lines: Lines, delimiter: str) -> None:
        self.lines = lines
        self.delimiter = delimiter
        self.width = 0  # columns of the header
        self.longest = MAX_RECORD
        self.taken: list[str] = []

    def next(self) -> Record | None:
        """Return the next record, None at the end."""
        line = self.lines.number + 1
        self.taken = []
        try:
            fields = next(self.parse(self.take_lines(), strict=True), None)
        except csv.Error:
            return self.recovered(line)
        except Unreadable as error:
            self.lines.put(self.taken[1:])
            return Record(line, [], str(error))
        return None if fields is None else Record(line, fields)

    def take_lines(self) -> Iterator[str]:
        size = 0
        while line := self.lines.take():
            self.taken.append(line)
            size += len(line)
            if size > self.longest:
                raise csv.Error("too long")
            yield line

    def parse(self, lines: Iterator[str], *, strict: bool) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True, strict=strict)

    def recovered(self, line: int) -> Record:
        """Read a record with faulty quotation marks. If it contains other rows, only its first line is lost."""
        if record := self.with_escaped_quotes(line):
            return record
        is_closed = "".join(self.taken).count('"') % 2 == 0
        try:
            fields = next(self.parse(iter(self.taken), strict=False), [])
        except csv.Error:  # a field that is too long
            is_closed, fields = False, []
        if len(self.taken) == 1 and is_closed:
            return Record(line, fields)
        if is_closed and len(fields) == self.width and not any(map(self.is_row, self.taken[1:])):
            return Record(line, fields)
        self.lines.put(self.taken[1:])
        self.longest = MAX_RECORD_AFTER_FAULT
        return Record(line, [], NOT_CLOSED)

    def with_escaped_quotes(self, line: int) -> Record | None:
        """Return the record if its quotation marks are escaped by backslashes, as MySQL does; None if they are not."""
        if not any('\\"' in taken for taken in self.taken):
            return None
        reader = csv.reader(
            iter(self.taken), delimiter=self.delimiter, skipinitialspace=True, strict=True, escapechar="\\"
        )
        try:
            fields = next(reader, [])
        except csv.Error:
            return None
        if len(fields) != self.width:
            return None
        self.lines.put(self.taken[reader.line_num :])
        return Record(line, fields)

    def is_row(self, line: str) -> bool:
        return len(next(self.parse(iter([line]), strict=False), [])) == self.width


def csv_rows(file: BinaryIO, source: str, origin: str, columns: Columns, charset: str | None = None) -> Iterator[Found]:
    csv.field_size_limit(MAX_RECORD)
    encoding = detect(iter(lambda: file.read(PIECE), b""), charset)
    file.seek(0)
    if encoding.doubt:
        yield Note(source, encoding.doubt)
    with io.TextIOWrapper(file, encoding.name, errors=encoding.errors, newline="") as text:
        lines = Lines(text)
        try:
            yield from rows_of_table(lines, source, origin, columns)
        except NoContentColumn as error:
            yield Refused(source, str(error), True)


def rows_of_table(lines: Lines, source: str, origin: str, columns: Columns) -> Iterator[Found]:
    """Yield the rows of a table. Raise NoContentColumn."""
    reader, layout = read_header(lines, columns)
    if guesses := layout.guesses(columns):
        yield Note(source, guesses)
    is_empty = True
    unpublished = 0
    waiting: Row | Refused | None = None  # until it is known whether the next rows continue it
    last_id = ""
    while record := reader.next():
        if record.is_empty:
            continue
        is_empty = False
        place = f"{source}:{record.line}"
        fields = without_empty_end(record.fields)
        row_id = layout.value("id", fields)
        if row_id and row_id == last_id and is_continuation(layout, fields):
            if isinstance(waiting, Row):  # otherwise what it adds to is a draft, or was refused
                variant = "; ".join(fact(name, value) for name, value in layout.others(fields))
                waiting = replace(waiting, facts="\n".join(filter(None, [waiting.facts, variant])))
            continue
        if waiting:
            yield waiting
        waiting, last_id = None, row_id
        if record.fault:
            waiting = Refused(place, record.fault, True)
        elif len(fields) > len(layout.names):
            waiting = Refused(place, "It has more fields than the header has columns.", True)
        elif layout.is_unpublished(fields):
            unpublished += 1
        else:
            waiting = layout.row(fields, place, source, origin)
    if waiting:
        yield waiting
    if unpublished:
        yield Note(source, f"{unpublished} rows are drafts or not published. They were left out.", unpublished)
    if is_empty:
        yield Refused(source, "It contains no rows below the header.", True)


def is_continuation(layout: Layout, fields: Sequence[str]) -> bool:
    """Return whether a row adds to the one before it, as the variants of a product do in Shopify's exports."""
    return not layout.value("content", fields).strip() and not layout.value("title", fields).strip()


def without_empty_end(fields: Sequence[str]) -> Sequence[str]:
    end = len(fields)
    while end and not fields[end - 1].strip():
        end -= 1
    return fields[:end]


def read_header(lines: Lines, columns: Columns) -> tuple[Reader, Layout]:
    """Find the delimiter and the header, which may have other lines above it. Raise NoContentColumn."""
    try:
        first = lines.take()
    except Unreadable as error:
        raise NoContentColumn(str(error)) from None
    delimiters = DELIMITERS
    if separator := SEPARATOR_LINE.fullmatch(first.lstrip("\ufeff")):
        delimiters = separator[1]
    else:
        lines.put([first] if first else [])
    widest: list[str] = []
    problem = ""
    for _ in range(MAX_LINES_ABOVE):
        best: tuple[int, Reader, Layout, list[str]] | None = None
        taken: list[str] = []
        for delimiter in delimiters:
            reader = Reader(lines, delimiter)
            record = reader.next()
            taken = reader.taken[:1]
            names = [" ".join(name.replace("\ufeff", "").split()) for name in (record.fields if record else [])]
            names = list(without_empty_end(names))
            try:
                layout = Layout.of(names, columns)
            except NoContentColumn as error:
                if not problem or len(names) > len(widest):
                    problem, widest = str(error), names
            else:
                if best is None or len(names) > best[0]:
                    best = len(names), reader, layout, list(reader.taken)
            if not (record and record.fault):
                lines.put(reader.taken)
            else:
                lines.put(reader.taken[:1])
        if best:
            _, reader, layout, header = best
            for _line in header:
                lines.take()
            reader.width, reader.longest = len(layout.names), MAX_RECORD
            if reader.delimiter not in "".join(header):
                reader.delimiter = NO_DELIMITER  # commas in the only column belong to its text
            return reader, layout
        if not taken:
            break
        lines.take()
    raise NoContentColumn(problem or list_of_columns([]))
