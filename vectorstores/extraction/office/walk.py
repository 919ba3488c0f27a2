"""Read the paragraphs and tables of office documents.

All formats consist of paragraphs and tables in XML, whose elements have the same names but for their namespaces. One
walk reads all text in them: also that in text boxes, content controls, links and insertions that are not accepted yet.
Source: ECMA-376, OASIS OpenDocument 1.3
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from vectorstores.extraction.extracted import Extracted
from vectorstores.extraction.office.archive import Archive
from vectorstores.extraction.outline import Outline, superscript
from vectorstores.extraction.titles import meaningful_title

PARAGRAPHS = {"p", "h"}
TABLES = {"tbl", "table"}
ROWS = {"tr", "table-row"}
CELLS = {"tc", "table-cell", "covered-table-cell"}
BREAKS = {"br": "\n", "cr": "\n", "line-break": "\n", "tab": " ", "s": " ", "noBreakHyphen": "-"}
# Deleted text, comments, fields' codes, properties, and the second version of what old programs cannot show.
SKIPPED = {
    "Fallback", "moveFrom", "del", "tracked-changes", "annotation", "instrText", "delText", "pPr", "rPr", "tblPr",
    "tblGrid", "trPr", "tcPr", "sectPr", "note-citation", "object", "forms", "notes", "scripts",
    "settings", "sequence-decls",
}  # fmt: skip
MAX_NESTED = 8  # tables within tables; deeper ones are read as text of the deepest
MAX_REPEATED = 100  # of a cell or row that says how often it is repeated
LONGEST_TIGHT = 200  # characters of a list item, above which a blank line separates it from the one before it


def value_of(element: Any, name: str = "val") -> str:
    """Return an attribute by its name without the namespace; "" if it is missing."""
    if element is None:
        return ""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def small_number(text: str) -> int | None:
    """Return a number of at most 6 digits; None for any other text."""
    return int(text) if text.isdecimal() and len(text) <= 6 else None


def repeated(element: Any, *names: str) -> int:
    """Return the number in the first of these attributes that is there, at least 1."""
    count = small_number(next((value for name in names if (value := value_of(element, name))), ""))
    return min(max(count, 1), MAX_REPEATED) if count is not None else 1


def is_on(element: Any, name: str) -> bool:
    """Return whether the attribute is there and true."""
    return value_of(element, name) in ("1", "true", "on")


def finished(
    outline: Outline, archive: Archive, properties: str, notes: list[str] | None = None, *, has_sheets: bool = False
) -> Extracted:
    """Return the text. Its title is the heading that it starts with, or the one in the part `properties`."""
    starts_with_heading = bool(outline.levels) and outline.levels[0][0] == 0 and outline.levels[0][1] == 1
    title = "" if starts_with_heading else meaningful_title(archive.title(properties))
    return outline.extracted(title, [*(notes or []), *archive.notes()], has_sheets=has_sheets)


@dataclass
class Table:
    """A table that is being read. `reach` has the cells that cover rows below: column -> (rows left, text)."""

    rows: list[list[str]] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)
    reach: dict[int, tuple[int, str]] = field(default_factory=dict)


class Walk:
    """Walks through XML and writes its paragraphs and tables. A table within a cell becomes text of the cell.

    `level_of` returns the level of a heading, 0 for other paragraphs; `label_of` what stands before a paragraph: "1.1"
    or, for an item of a list, "- " with a blank at its end.
    """

    def __init__(
        self,
        outline: Outline,
        level_of: Callable[[Any], int] = lambda paragraph: 0,
        label_of: Callable[[Any], str] = lambda paragraph: "",
        *,
        is_mixed: bool = False,
        skips: Callable[[Any], bool] = lambda element: False,
    ) -> None:
        self.outline = outline
        self.level_of = level_of
        self.label_of = label_of
        self.is_mixed = is_mixed  # whether all characters in a paragraph are text, or only those in <t>
        self.skips = skips
        self.paragraphs: list[list[str]] = []  # a text box is a paragraph within one
        self.tables: list[Table] = []
        self.after_item = False

    def through(self, root: Any) -> None:
        skipped = None
        for event, element in etree.iterwalk(root, events=("start", "end")):
            if not isinstance(element.tag, str):
                continue
            name = element.tag.rpartition("}")[2]
            if skipped is not None:
                if event == "end" and element is skipped:
                    skipped = None
                    self.mixed(element.tail)
                continue
            if event == "start" and (name in SKIPPED or self.skips(element)):
                skipped = element
            elif event == "start":
                self.start(name, element)
            else:
                self.end(name, element)

    def start(self, name: str, element: Any) -> None:
        if name in PARAGRAPHS:
            self.paragraphs.append([])
        elif name in TABLES:
            self.tables.append(Table() if len(self.tables) < MAX_NESTED else self.tables[-1])
        elif self.tables and name in ROWS:
            self.tables[-1].rows.append([])
        elif self.tables and name in CELLS:
            self.tables[-1].cell = []
        elif self.paragraphs and name in BREAKS:
            self.paragraphs[-1].append(BREAKS[name])
        elif self.paragraphs and name == "t" and not self.is_mixed:
            text = element.text or ""
            self.paragraphs[-1].append(superscript(text) if is_raised(element) else text)
        self.mixed(element.text)

    def end(self, name: str, element: Any) -> None:
        if name in PARAGRAPHS and self.paragraphs:
            self.paragraph(element, "".join(self.paragraphs.pop()))
        elif name in TABLES and self.tables:
            self.table(self.tables.pop())
        elif self.tables and self.tables[-1].rows and name in CELLS:
            self.cell(name, element)
        elif self.tables and self.tables[-1].rows and name in ROWS:
            table = self.tables[-1]
            table.reach = {at: (rows - 1, text) for at, (rows, text) in table.reach.items() if rows > 1}
            copies = repeated(element, "number-rows-repeated") if any(table.rows[-1]) else 1
            table.rows += [table.rows[-1]] * (copies - 1)
        self.mixed(element.tail)

    def mixed(self, text: str | None) -> None:
        if text and self.is_mixed and self.paragraphs:
            self.paragraphs[-1].append(" ".join(f"|{text}|".split())[1:-1])

    def paragraph(self, element: Any, text: str) -> None:
        if not (text := text.strip()):
            return
        label, level = self.label_of(element), self.level_of(element)
        is_item = label.endswith(" ") and not level
        text = f"{label.strip()} {text}" if label else text
        if self.tables:
            self.tables[-1].cell.append(text)
        elif level:
            self.outline.heading(level, text)
        else:
            self.outline.block(text, tight=is_item and self.after_item and len(text) <= LONGEST_TIGHT)
        self.after_item = is_item and not self.tables

    def cell(self, name: str, element: Any) -> None:
        """End a cell. One that another cell covers, above it or to its left, has the text of that cell."""
        table = self.tables[-1]
        row, text = table.rows[-1], " ".join(table.cell)
        table.cell = []
        properties = element.find("{*}tcPr")  # of Word, where a covered cell has an element of its own
        merge = properties.find("{*}vMerge") if properties is not None else None
        if merge is not None and value_of(merge) != "restart":
            above = table.rows[-2] if len(table.rows) > 1 else []
            text = text or (above[len(row)] if len(row) < len(above) else "")
        grid_span = properties.find("{*}gridSpan") if properties is not None else None
        copies = repeated(grid_span if grid_span is not None else element, "val", "number-columns-repeated")
        is_covered = name == "covered-table-cell" or is_on(element, "hMerge") or is_on(element, "vMerge")
        if is_covered:
            row += [text or table.reach.get(at, (0, ""))[1] for at in range(len(row), len(row) + copies)]
            return
        columns = repeated(element, "gridSpan", "number-columns-spanned")
        rows = repeated(element, "rowSpan", "number-rows-spanned")
        if columns > 1 or rows > 1:
            table.reach.update(dict.fromkeys(range(len(row), len(row) + columns), (rows, text)))
        row += [text] * copies

    def table(self, table: Table) -> None:
        if self.tables and self.tables[-1] is not table:
            self.tables[-1].cell.append(" ".join(" ".join(filter(None, row)) for row in table.rows))
        elif not self.tables:
            self.outline.table(table.rows)
            self.after_item = False


def is_raised(text: Any) -> bool:
    """Return whether a run of text is superscript, in Word or PowerPoint."""
    run = text.getparent()
    properties = run.find("{*}rPr") if run is not None else None
    if properties is None:
        return False
    baseline = properties.get("baseline", "")
    return value_of(properties.find("{*}vertAlign")) == "superscript" or (baseline.isdecimal() and baseline != "0")
