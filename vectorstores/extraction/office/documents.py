"""Text documents and presentations: docx, pptx, odt, odp, ods.

All of them consist of paragraphs and tables in XML, whose elements have the same names but for their namespaces. One
walk reads all text in them: also that in text boxes, content controls, links and insertions that are not accepted yet.
Source: ECMA-376, OASIS OpenDocument 1.3
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from vectorstores.extraction.extracted import Extracted, Unreadable
from vectorstores.extraction.office.archive import DAMAGED, Archive
from vectorstores.extraction.outline import Outline
from vectorstores.extraction.titles import meaningful_title

PARAGRAPHS = {"p", "h"}
TABLES = {"tbl", "table"}
ROWS = {"tr", "table-row"}
CELLS = {"tc", "table-cell", "covered-table-cell"}
BREAKS = {"br": "\n", "cr": "\n", "line-break": "\n", "tab": " ", "s": " ", "noBreakHyphen": "-"}
# Deleted text, comments, fields' codes, properties, and the fallbacks for old programs.
SKIPPED = {
    "Fallback", "moveFrom", "del", "tracked-changes", "annotation", "instrText", "delText", "pPr", "rPr", "tblPr",
    "tblGrid", "trPr", "tcPr", "sectPr", "note-citation", "object", "forms", "notes", "scripts",
    "settings", "sequence-decls",
}  # fmt: skip
MAX_NESTED = 8  # tables within tables; deeper ones are read as text of the deepest
MAX_REPEATED = 100  # of a cell or row that says how often it is repeated


def from_docx(data: bytes) -> Extracted:
    archive = Archive(data)
    main = part_of_type(archive, "", "officeDocument") or "word/document.xml"
    related = archive.related(main)
    levels = style_levels(archive, related)
    outline = Outline()

    def level_of(paragraph: Any) -> int:
        style = paragraph.find("{*}pPr/{*}pStyle")
        return levels.get(value_of(style), 0) if style is not None else 0

    def is_item(paragraph: Any) -> bool:
        return paragraph.find("{*}pPr/{*}numPr") is not None

    Walk(outline, level_of, is_item).through(archive.xml(main))
    for kind, name in related.values():
        # A letter may have its text in the header; usually headers repeat what is on each page.
        is_wanted = kind in ("footnotes", "endnotes") or (not outline.blocks and kind in ("header", "footer"))
        if is_wanted and name in archive:
            Walk(outline).through(archive.xml(name))
    return finished(outline, archive.title("docProps/core.xml"))


def from_pptx(data: bytes) -> Extracted:
    archive = Archive(data)
    main = part_of_type(archive, "", "officeDocument") or "ppt/presentation.xml"
    related = archive.related(main)
    outline = Outline()
    hidden = number = 0
    for entry in archive.xml(main).iter("{*}sldId"):
        name = next((related[value][1] for value in entry.attrib.values() if value in related), "")
        if name not in archive:
            continue
        number += 1
        slide = archive.xml(name)
        if slide.get("show") in ("0", "false"):
            hidden += 1
            continue
        title = slide_title(slide)
        outline.heading(2, title or f"Slide {number}")
        Walk(outline, skips=lambda element: element.tag.endswith("}sp") and is_title(element)).through(slide)
        for kind, part in archive.related(name).values():
            if kind == "diagramData" and part in archive:
                Walk(outline).through(archive.xml(part))
    notes = [f"Hidden slides were skipped: {hidden}."] if hidden else []
    return finished(outline, archive.title("docProps/core.xml"), notes)


def from_open_document(data: bytes) -> Extracted:
    archive = Archive(data)
    if "META-INF/manifest.xml" in archive and b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise Unreadable("The file is password-protected.")
    body = next(archive.xml("content.xml").iter("{*}body"), None)
    if body is None:
        raise Unreadable(DAMAGED)
    outline = Outline()

    def level_of(paragraph: Any) -> int:
        return repeated(paragraph, "outline-level") if paragraph.tag.endswith("}h") else 0

    def is_item(paragraph: Any) -> bool:
        return paragraph.getparent().tag.endswith("}list-item")

    Walk(outline, level_of, is_item, is_mixed=True).through(body)
    return finished(outline, archive.title("meta.xml"))


def part_of_type(archive: Archive, name: str, kind: str) -> str:
    return next((part for found, part in archive.related(name).values() if found == kind and part in archive), "")


def style_levels(archive: Archive, related: dict[str, tuple[str, str]]) -> dict[str, int]:
    """Return the heading levels by the ids of the styles, which are in the language of the author."""
    name = next((part for kind, part in related.values() if kind == "styles"), "")
    levels = {"Title": 1, **{f"Heading{level}": level for level in range(1, 7)}}
    if name not in archive:
        return levels
    for style in archive.xml(name).iter("{*}style"):
        named = value_of(style.find("{*}name")).lower()
        outline_level = value_of(style.find("{*}pPr/{*}outlineLvl"))
        if named.startswith("heading ") and named[8:].isdigit():
            levels[value_of(style, "styleId")] = int(named[8:])
        elif named == "title":
            levels[value_of(style, "styleId")] = 1
        elif outline_level.isdigit() and int(outline_level) < 9:
            levels[value_of(style, "styleId")] = int(outline_level) + 1
    return levels


def value_of(element: Any, name: str = "val") -> str:
    """Return an attribute by its name without the namespace; "" if there is none."""
    if element is None:
        return ""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def is_title(shape: Any) -> bool:
    placeholder = next(shape.iter("{*}ph"), None)
    return placeholder is not None and placeholder.get("type") in ("title", "ctrTitle")


def slide_title(slide: Any) -> str:
    found = (shape for shape in slide.iter("{*}sp") if is_title(shape))
    shape = next(found, None)
    return "" if shape is None else " ".join("".join(text.itertext()) for text in shape.iter("{*}t"))


def finished(outline: Outline, title: str, notes: list[str] | None = None) -> Extracted:
    """Return the text. Its title is the heading that it starts with, or the one in its properties."""
    starts_with_heading = bool(outline.levels) and outline.levels[0][0] == 0 and outline.levels[0][1] == 1
    return outline.extracted("" if starts_with_heading else meaningful_title(title), notes or [])


@dataclass
class Table:
    rows: list[list[str]] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)


class Walk:
    """A walk through XML that writes its paragraphs and tables. A table within a cell becomes text of the cell."""

    def __init__(
        self,
        outline: Outline,
        level_of: Callable[[Any], int] = lambda paragraph: 0,
        is_item: Callable[[Any], bool] = lambda paragraph: False,
        *,
        is_mixed: bool = False,
        skips: Callable[[Any], bool] = lambda element: False,
    ) -> None:
        self.outline = outline
        self.level_of = level_of
        self.is_item = is_item
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
            self.paragraphs[-1].append(element.text or "")
        self.mixed(element.text)

    def end(self, name: str, element: Any) -> None:
        if name in PARAGRAPHS and self.paragraphs:
            self.paragraph(element, "".join(self.paragraphs.pop()))
        elif name in TABLES and self.tables:
            self.table(self.tables.pop())
        elif self.tables and self.tables[-1].rows and name in CELLS:
            self.cell(element)
        elif self.tables and self.tables[-1].rows and name in ROWS:
            copies = repeated(element, "number-rows-repeated") if any(self.tables[-1].rows[-1]) else 1
            self.tables[-1].rows += [self.tables[-1].rows[-1]] * (copies - 1)
        self.mixed(element.tail)

    def mixed(self, text: str | None) -> None:
        if text and self.is_mixed and self.paragraphs:
            self.paragraphs[-1].append(" ".join(f"|{text}|".split())[1:-1])

    def paragraph(self, element: Any, text: str) -> None:
        if not text.strip():
            return
        if self.tables:
            self.tables[-1].cell.append(text)
        elif level := self.level_of(element):
            self.outline.heading(level, text)
        elif self.is_item(element):
            self.outline.block(f"- {text.strip()}", tight=self.after_item)
        else:
            self.outline.block(text.strip())
        self.after_item = not self.tables and not self.level_of(element) and self.is_item(element)

    def cell(self, element: Any) -> None:
        """End a cell. A cell that is merged with the one above repeats its text."""
        row, text = self.tables[-1].rows[-1], " ".join(self.tables[-1].cell)
        self.tables[-1].cell = []
        if element.find("{*}tcPr/{*}vMerge") is not None and value_of(element.find("{*}tcPr/{*}vMerge")) != "restart":
            above = self.tables[-1].rows[-2] if len(self.tables[-1].rows) > 1 else []
            text = text or (above[len(row)] if len(row) < len(above) else "")
        span = value_of(element.find("{*}tcPr/{*}gridSpan"))
        copies = int(span) if span.isdigit() else repeated(element, "number-columns-repeated")
        row += [text] * min(copies, MAX_REPEATED)

    def table(self, table: Table) -> None:
        if self.tables and self.tables[-1] is not table:
            self.tables[-1].cell.append(" ".join(" ".join(filter(None, row)) for row in table.rows))
        elif not self.tables:
            self.outline.table(table.rows)
            self.after_item = False


def repeated(element: Any, name: str) -> int:
    """Return the number in an attribute, at least 1."""
    count = value_of(element, name)
    return min(int(count), MAX_REPEATED) if count.isdigit() and count != "0" else 1
