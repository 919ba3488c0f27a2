"""Spreadsheets: merged and hidden cells, formats of numbers, and sheets."""

import io
from collections.abc import Callable
from datetime import timedelta

import pytest
from openpyxl import Workbook
from openpyxl.chart import BarChart

from tests.support.knowledge.documents import zipped
from vectorstores.extraction import extract, media_type_of
from vectorstores.extraction.office.sheet_layout import SheetLayout


def xlsx(fill: Callable[..., object], *rows: list[object]):
    """Return what is extracted of a workbook with one sheet that `fill` has changed."""
    book = Workbook()
    for row in rows:
        book.active.append(row)
    fill(book.active)
    file = io.BytesIO()
    book.save(file)
    return extract(file.getvalue(), media_type_of("a.xlsx"))


def lines(extracted) -> list[str]:
    return [line for line in extracted.text.splitlines() if line and not line.startswith("| ---")]


def test_a_cell_that_is_merged_over_rows_is_in_each():
    rows = [
        ["Group", "Name", "Price"],
        ["Pots", "Kyoto", 39],
        [None, "Osaka", 49],
        [None, None, None],
        ["Cups", "Edo", 9],
    ]
    assert lines(xlsx(lambda sheet: sheet.merge_cells("A2:A4"), *rows)) == [
        "| Group | Name | Price |", "| Pots | Kyoto | 39 |", "| Pots | Osaka | 49 |", "| Cups | Edo | 9 |",
    ]  # fmt: skip


def test_a_header_that_is_merged_over_columns_is_in_each_but_a_title_is_not():
    def merge(sheet):
        for cells in ("A1:C1", "B2:C2", "A2:A3"):
            sheet.merge_cells(cells)

    rows = [["Price list", None, None], ["Name", "Price", None], [None, "net", "gross"], ["Tea", 5, 6]]
    assert lines(xlsx(merge, *rows)) == [
        "Price list", "| Name | Price | Price |", "| Name | net | gross |", "| Tea | 5 | 6 |",
    ]  # fmt: skip


def hide(sheet):
    sheet.column_dimensions["B"].hidden = True
    sheet.row_dimensions[3].hidden = True


HIDDEN = [["Name", "Cost", "Price"], ["Tea", "secret", 5], ["Old", "secret", 9], ["Cup", "secret", 6]]


def test_hidden_rows_and_columns_are_skipped_and_told():
    extracted = xlsx(hide, *HIDDEN)
    assert lines(extracted) == ["| Name | Price |", "| Tea | 5 |", "| Cup | 6 |"]
    assert "Hidden rows or columns were skipped in 1 sheets" in extracted.notes[0]


def test_rows_that_a_filter_hides_are_read():
    def hide_and_filter(sheet):
        hide(sheet)
        sheet.auto_filter.ref = "A1:C4"

    assert lines(xlsx(hide_and_filter, *HIDDEN)) == ["| Name | Price |", "| Tea | 5 |", "| Old | 9 |", "| Cup | 6 |"]


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (123, "000000", "000123"), (1099, "00000", "01099"), (timedelta(hours=26, minutes=30), "[h]:mm", "26:30"),
        (4001234567890123, "0", "4001234567890123"), (39.9, "0.00", "39.90"), (5, "0", "5"),
    ],
)  # fmt: skip
def test_numbers_look_as_in_a_spreadsheet_program(value, style, text):
    def form(sheet):
        sheet["B1"].number_format = style

    assert lines(xlsx(form, ["Value", value])) == [f"| Value | {text} |"]


def test_a_sheet_with_a_chart_alone_does_no_harm():
    assert lines(xlsx(lambda sheet: sheet.parent.create_chartsheet("Chart").add_chart(BarChart()), ["Tea", 5])) == [
        "| Tea | 5 |"
    ]


def test_a_damaged_layout_does_no_harm():
    class Archive:
        def read(self, name: str) -> bytes:
            return b'<worksheet><col min="x" max="" hidden="1"/><row r="" hidden="1"/><mergeCell ref="A1:"/><mergeCell'

    layout = SheetLayout.of(Archive(), "sheet.xml")  # type: ignore[arg-type]
    assert (layout.hidden_columns, layout.hidden_rows, layout.merged) == ([], set(), {})


OD = (
    'xmlns:office="office" xmlns:text="text" xmlns:table="table" xmlns:style="style" xmlns:draw="draw"'
    ' xmlns:presentation="presentation"'
)


def open_document(name: str, body: str, styles: str = ""):
    content = f"<x {OD}>{styles}<office:body>{body}</office:body></x>"
    return extract(zipped(**{"content.xml": content}), media_type_of(name))


def ods_row(*cells: str) -> str:
    return f"<table:table-row>{''.join(cells)}</table:table-row>"


def ods_cell(text: str, more: str = "") -> str:
    return f"<table:table-cell {more}><text:p>{text}</text:p></table:table-cell>"


def ods_sheet(name: str, *rows: str, style: str = "") -> str:
    return f'<table:table table:name="{name}" table:style-name="{style}">{"".join(rows)}</table:table>'


COVERED = "<table:covered-table-cell/>"


def test_ods_has_its_sheets_and_merged_cells():
    prices = ods_sheet(
        "Prices",
        ods_row(ods_cell("Pots", 'table:number-rows-spanned="2"'), ods_cell("Kyoto")),
        ods_row(COVERED, ods_cell("Osaka")),
        ods_row(ods_cell("Both", 'table:number-columns-spanned="2"'), COVERED),
        ods_row(ods_cell("Cups"), ods_cell("Edo")),
    )
    body = f"{prices}{ods_sheet('Hours', ods_row(ods_cell('Mon'), ods_cell('9-17')))}"
    extracted = open_document("a.ods", f"<office:spreadsheet>{body}</office:spreadsheet>")
    assert lines(extracted) == [
        "## Prices", "| Pots | Kyoto |", "| Pots | Osaka |", "| Both | Both |", "| Cups | Edo |",
        "## Hours", "| Mon | 9-17 |",
    ]  # fmt: skip
    assert extracted.title == ""  # the file's name says more than that of a sheet
    assert [heading for _, heading in extracted.headings] == ["Prices", "Hours"]


def test_hidden_sheets_of_ods_are_skipped_and_told():
    body = ods_sheet("A", ods_row(ods_cell("Tea"), ods_cell("5"))) + ods_sheet(
        "B", ods_row(ods_cell("secret")), style="h"
    )
    styles = '<style:style style:name="h"><style:table-properties table:display="false"/></style:style>'
    extracted = open_document("a.ods", f"<office:spreadsheet>{body}</office:spreadsheet>", styles)
    assert lines(extracted) == ["| Tea | 5 |"]
    assert extracted.notes == ["Hidden sheets were skipped: 1."]


def test_odp_has_its_slides_with_titles():
    title = '<draw:frame presentation:class="title"><text:p>Returns</text:p></draw:frame>'
    notes = "<presentation:notes><text:p>Speak slowly</text:p></presentation:notes>"
    body = f"<draw:page>{title}<text:p>30 days</text:p>{notes}</draw:page><draw:page><text:p>Bye</text:p></draw:page>"
    extracted = open_document("a.odp", f"<office:presentation>{body}</office:presentation>")
    assert extracted.text == "## Returns\n\n30 days\n\n## Slide 2\n\nBye"
    assert "those of 1 slides" in extracted.notes[0]
