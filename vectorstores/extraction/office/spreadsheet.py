"""Spreadsheets (xlsx): each visible sheet as Markdown tables, with numbers as their cells show them."""

import io
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from openpyxl import load_workbook

from vectorstores.extraction.extracted import Extracted, Unreadable
from vectorstores.extraction.office.archive import DAMAGED, Archive
from vectorstores.extraction.office.sheet_layout import SheetLayout
from vectorstores.extraction.outline import Outline
from vectorstores.extraction.titles import meaningful_title

MAX_CELLS = 2_000_000
LEADING_ZEROS = re.compile(r"0{2,15}")
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
    worksheets = [sheet for sheet in workbook.worksheets if hasattr(sheet, "reset_dimensions")]  # not charts
    sheets = [sheet for sheet in worksheets if sheet.sheet_state == "visible"]
    outline = Outline()
    cells = hidden_parts = 0
    for sheet in sheets:
        sheet.reset_dimensions()  # those in the file are often wrong
        if len(sheets) > 1:
            outline.heading(2, sheet.title)
        layout = SheetLayout.of(archive, sheet._worksheet_path)
        for table in tables(sheet.iter_rows(), layout):
            cells += sum(map(len, table))
            if cells > MAX_CELLS:
                raise Unreadable(f"The file has more than {MAX_CELLS} cells.")
            write_table(outline, table)
        hidden_parts += layout.has_hidden
    notes = []
    if hidden := len(worksheets) - len(sheets):
        notes.append(f"Hidden sheets were skipped: {hidden}.")
    if hidden_parts:
        notes.append(f"Hidden rows or columns were skipped in {hidden_parts} sheets. Show them to import them.")
    parts = [name for name in archive.infos if name.startswith("xl/worksheets/") and name.endswith(".xml")]
    if missing := sum(len(MISSING_VALUE.findall(archive.read(name))) for name in parts):
        notes.append(f"Formulas without a stored value: {missing}. Open and save the file in a spreadsheet program.")
    title = workbook.properties.title if workbook.properties else ""
    return outline.extracted(meaningful_title(title or ""), notes, has_sheets=True)


def tables(rows: Iterable[Iterable[Any]], layout: SheetLayout) -> Iterator[list[dict[int, str]]]:
    """Yield the tables of a sheet, which empty rows separate. A row is column -> text, both counted from 1."""
    table: list[dict[int, str]] = []
    for number, row in enumerate(rows, 1):
        texts = {at: text for at, cell in enumerate(row, 1) if (text := shown(cell))}
        texts = layout.visible(number, layout.filled(number, texts))
        if texts:
            table.append(texts)
        elif table and not layout.is_hidden_row(number):
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
    if isinstance(value, timedelta):
        minutes = round(value.total_seconds() / 60)
        return f"{minutes // 60}:{minutes % 60:02}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return " ".join(str(value).split())
    style = cell.number_format or ""
    if LEADING_ZEROS.fullmatch(style):  # postcodes and article numbers
        return f"{value:0{len(style)}.0f}"
    decimals = DECIMALS.search(style)
    if "%" in style:
        return f"{value * 100:.{len(decimals[1]) if decimals else 0}f} %"
    plain = str(value) if isinstance(value, int) else f"{value:.15g}"
    text = f"{value:.{len(decimals[1])}f}" if decimals else plain
    currency = CURRENCY.search(style)
    return f"{text} {currency[0]}" if currency else text
