"""Spreadsheets (xlsx): each visible sheet as Markdown tables, with numbers as their cells show them."""

import io
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Any

from openpyxl import load_workbook

from vectorstores.extraction.extracted import Extracted, Unreadable
from vectorstores.extraction.office.archive import DAMAGED, Archive
from vectorstores.extraction.outline import Outline
from vectorstores.extraction.titles import meaningful_title

MAX_CELLS = 2_000_000
DECIMALS = re.compile(r"0\.(0{1,9})")
CURRENCY = re.compile(r"[€$£¥₹₽₺₩₴₪฿]|\b(?:EUR|USD|CHF|GBP|SEK|NOK|DKK|PLN|CZK)\b|kr|zł|Kč")
MISSING_VALUE = re.compile(rb"</f>(?:<v\s*/>|<v></v>)?</c>|<f[^<>]{0,500}/>(?:<v\s*/>|<v></v>)?</c>")


def from_xlsx(data: bytes) -> Extracted:
    archive = Archive(data)
    try:
        workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        return written(workbook, archive)
    except Unreadable:
        raise
    except Exception as error:  # openpyxl raises almost anything on a damaged file
        raise Unreadable(DAMAGED) from error


def written(workbook: Any, archive: Archive) -> Extracted:
    sheets = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
    outline = Outline()
    cells = 0
    for sheet in sheets:
        sheet.reset_dimensions()  # those in the file are often wrong
        if len(sheets) > 1:
            outline.heading(2, sheet.title)
        for table in tables(sheet.iter_rows()):
            cells += sum(map(len, table))
            if cells > MAX_CELLS:
                raise Unreadable(f"The file has more than {MAX_CELLS} cells.")
            write_table(outline, table)
    notes = []
    if hidden := len(workbook.worksheets) - len(sheets):
        notes.append(f"Hidden sheets were skipped: {hidden}.")
    parts = [name for name in archive.infos if name.startswith("xl/worksheets/") and name.endswith(".xml")]
    if missing := sum(len(MISSING_VALUE.findall(archive.read(name))) for name in parts):
        notes.append(f"Formulas without a stored value: {missing}. Open and save the file in a spreadsheet program.")
    title = workbook.properties.title if workbook.properties else ""
    return outline.extracted(meaningful_title(title or ""), notes)


def tables(rows: Iterable[Iterable[Any]]) -> Iterator[list[dict[int, str]]]:
    """Yield the tables of a sheet, which empty rows separate. A row is column -> text."""
    table: list[dict[int, str]] = []
    for row in rows:
        if texts := {at: text for at, cell in enumerate(row) if (text := shown(cell))}:
            table.append(texts)
        elif table:
            yield table
            table = []
    if table:
        yield table


def write_table(outline: Outline, table: list[dict[int, str]]) -> None:
    """Write a table. Rows of one cell above it are its title."""
    is_wide = any(len(row) > 1 for row in table)
    while table and len(table[0]) == 1 and is_wide:
        outline.block(next(iter(table.pop(0).values())))
    used = sorted({at for row in table for at in row})
    outline.table([[row.get(at, "") for at in used] for row in table])


def shown(cell: Any) -> str:
    """Return the text of a cell, about as a spreadsheet program shows it."""
    value = cell.value
    if value is None or (isinstance(value, str) and value.startswith("#") and cell.data_type == "e"):
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return " ".join(str(value).split())
    style = cell.number_format or ""
    decimals = DECIMALS.search(style)
    if "%" in style:
        return f"{value * 100:.{len(decimals[1]) if decimals else 0}f} %"
    text = f"{value:.{len(decimals[1])}f}" if decimals else f"{value:.15g}"
    currency = CURRENCY.search(style)
    return f"{text} {currency[0]}" if currency else text
