"""What a sheet (xlsx) says of its rows and columns: which are hidden, and which cells are merged.

openpyxl does not read it in the mode that keeps little in memory.
"""

import io
import re
from bisect import bisect_right
from dataclasses import dataclass, field

from lxml import etree

from vectorstores.extraction.office.archive import Archive

RANGE = re.compile(r"([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})")
MAX_MERGED = 100_000  # merged cells
MAX_WIDTH = 200  # columns over which the text of a merged cell is repeated


@dataclass
class SheetLayout:
    """The hidden rows and columns of a sheet and its merged cells: (row, column) -> (last row, last column)."""

    hidden_rows: set[int] = field(default_factory=set)
    hidden_columns: list[tuple[int, int]] = field(default_factory=list)  # from, to
    merged: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    covering: list[tuple[int, int, int, str]] = field(default_factory=list)  # first and last column, last row, text
    has_hidden: bool = False  # whether texts were left out

    @classmethod
    def of(cls, archive: Archive, name: str) -> "SheetLayout":
        """Read the part of a sheet. Rows that a filter hides count as visible: the filter may be from yesterday."""
        layout = cls()
        is_filtered = False
        tags = ("{*}row", "{*}col", "{*}mergeCell", "{*}autoFilter", "{*}tablePart")
        options = {"recover": True, "resolve_entities": False, "no_network": True, "huge_tree": True}
        for _, element in etree.iterparse(io.BytesIO(archive.read(name.lstrip("/"))), tag=tags, **options):
            kind = etree.QName(element).localname
            if kind in ("autoFilter", "tablePart"):
                is_filtered = True
            elif kind == "mergeCell":
                layout.add_merged(element.get("ref", ""))
            elif element.get("hidden") in ("1", "true"):
                first, last = (element.get(key, "") for key in (("min", "max") if kind == "col" else ("r", "r")))
                if first.isdecimal() and last.isdecimal() and len(first + last) < 16:
                    if kind == "col":
                        layout.hidden_columns.append((int(first), int(last)))
                    else:
                        layout.hidden_rows.add(int(first))
            element.clear()
            while kind == "row" and element.getprevious() is not None:
                del element.getparent()[0]
        layout.hidden_columns.sort()
        if is_filtered:
            layout.hidden_rows.clear()
        return layout

    def add_merged(self, reference: str) -> None:
        found = RANGE.fullmatch(reference)
        if found and len(self.merged) < MAX_MERGED:
            first, last = column_number(found[1]), column_number(found[3])
            self.merged[int(found[2]), first] = int(found[4]), last

    def filled(self, number: int, texts: dict[int, str]) -> dict[int, str]:
        """Return the texts of a row and those of merged cells that reach into it. A title over a table stays once."""
        if not self.merged:
            return texts
        self.covering = [merged for merged in self.covering if merged[2] >= number]
        filled = {at: text for first, last, _, text in self.covering for at in range(first, last + 1)} if texts else {}
        for at, text in texts.items():
            if (end := self.merged.get((number, at))) is not None:
                last = min(end[1], at + MAX_WIDTH) if len(texts) > 1 else at
                self.covering += [(at, last, end[0], text)] if end[0] > number else []
                filled |= dict.fromkeys(range(at, last + 1), text)
        return filled | texts

    def visible(self, number: int, texts: dict[int, str]) -> dict[int, str]:
        """Return the texts that are not in a hidden row or column."""
        shown = {} if self.is_hidden_row(number) else {
            at: text for at, text in texts.items() if not self.is_hidden_column(at)
        }  # fmt: skip
        self.has_hidden |= len(shown) < len(texts)
        return shown

    def is_hidden_row(self, number: int) -> bool:
        return number in self.hidden_rows

    def is_hidden_column(self, number: int) -> bool:
        before = bisect_right(self.hidden_columns, (number, 1 << 30))
        return bool(before) and number <= self.hidden_columns[before - 1][1]


def column_number(letters: str) -> int:
    """Return the number of a column, 28 for AB."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number
