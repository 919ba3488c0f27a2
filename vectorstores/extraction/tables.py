"""Tables of web pages: which of them hold data, and their rows with merged cells filled in."""

from collections.abc import Iterator
from typing import Any

from lxml import etree

from vectorstores.extraction.outline import superscript

LAYOUT = {"h1", "h2", "h3", "h4", "h5", "h6", "table", "form", "pre", "article", "section", "main"}
INLINE = {
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd",
    "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
}  # fmt: skip
MAX_SPAN = 100
MAX_CELLS = 200_000
LONG = 1000  # characters of a cell, above which a table without header cells is a layout


def is_data_table(table: Any) -> bool:
    """Return whether a table has columns of data. Old pages and e-mails are laid out with tables."""
    if table.get("role") in ("presentation", "none"):
        return False
    has_columns, has_headers = False, False
    for cell in table.iter("td", "th"):
        has_headers |= cell.tag == "th"
        has_columns |= cell.getprevious() is not None or cell.getnext() is not None
        if next(cell.iter(*LAYOUT), None) is not None:
            return False
        if not has_headers and sum(map(len, cell.itertext())) > LONG:
            return False
    return has_columns


def table_rows(table: Any) -> list[list[str]]:
    """Return the texts of the cells. A cell that spans rows or columns is repeated, and header rows become one."""
    rows: list[list[str]] = []
    waiting: dict[int, tuple[int, str]] = {}  # column -> (rows that the cell above still covers, its text)
    header_rows = 0
    total = 0
    for tr in table.iter("tr"):
        row: list[str] = []
        cells = [cell for cell in tr if cell.tag in ("td", "th")]
        for cell in cells:
            take_waiting(row, waiting)
            text = " ".join("".join(pieces(cell)).split())
            columns, below = span(cell, "colspan"), span(cell, "rowspan") - 1
            for _ in range(columns):
                if below:
                    waiting[len(row)] = (below, text)
                row.append(text)
        take_waiting(row, waiting)
        total += len(row)
        if total > MAX_CELLS:
            break
        if cells and header_rows == len(rows) and len(rows) < 3 and all(cell.tag == "th" for cell in cells):
            header_rows += 1
        rows.append(row)
    if header_rows > 1 and len(rows) > header_rows:
        return [merged(rows[:header_rows]), *rows[header_rows:]]
    return rows


def take_waiting(row: list[str], waiting: dict[int, tuple[int, str]]) -> None:
    """Append the cells of rows above that span the next columns of this row."""
    while found := waiting.pop(len(row), None):
        below, text = found
        if below > 1:
            waiting[len(row)] = (below - 1, text)
        row.append(text)
        if len(row) > MAX_CELLS:
            return


def merged(rows: list[list[str]]) -> list[str]:
    """Return one header row of several: "Season Low" of "Season" above "Low"."""
    width = max(map(len, rows))
    columns = [[row[at] if at < len(row) else "" for row in rows] for at in range(width)]
    return [" ".join(dict.fromkeys(filter(None, column))) for column in columns]


def span(cell: Any, name: str) -> int:
    try:
        return min(max(int(cell.get(name) or 1), 1), MAX_SPAN)
    except ValueError:
        return 1


def pieces(cell: Any) -> Iterator[str]:
    """Yield the texts of a cell with a space where an element ends a line."""
    for event, element in etree.iterwalk(cell, events=("start", "end")):
        if element.tag not in INLINE:
            yield " "
        text = element.text if event == "start" else element.tail if element is not cell else ""
        is_raised = event == "start" and element.tag == "sup"
        yield superscript(text or "") if is_raised else text or ""
