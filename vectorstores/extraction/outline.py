"""Collect the blocks of a document as Markdown: headings, paragraphs, lists and tables."""

import re
from collections.abc import Sequence

from puffer.text import storable
from vectorstores.extraction.extracted import Extracted
from vectorstores.extraction.titles import meaningful_title

LEVELS = 6
RAISED_DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
RAISED = str.maketrans("0123456789+-", f"{RAISED_DIGITS}⁺⁻")
LOWERED = str.maketrans(RAISED_DIGITS, "0123456789")
CURRENCY = "[$€£¥]"
CENTS = re.compile(
    rf"({CURRENCY}\s?\d[\d.,]{{0,15}})([{RAISED_DIGITS}]{{2}})(?![{RAISED_DIGITS}])"
    rf"|(\d)([{RAISED_DIGITS}]{{2}})(?=\s?(?:{CURRENCY}|EUR\b|USD\b|GBP\b|CHF\b))"
)


def superscript(text: str) -> str:
    """Return raised digits as such: otherwise 10<sup>2</sup> would be read as 102."""
    return text.translate(RAISED) if text.strip("+- \n").isdecimal() else text


def with_cents(text: str) -> str:
    """Write the raised cents of a price behind a point, "$19.99" for $19<sup>99</sup>."""
    return CENTS.sub(lambda price: f"{price[1] or price[3]}.{(price[2] or price[4]).translate(LOWERED)}", text)


class Outline:
    """A text that is written block by block, and the positions of its headings."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.length = 0
        self.levels: list[tuple[int, int, str]] = []  # character, level, heading

    def block(self, text: str, *, tight: bool = False) -> None:
        """Add a paragraph or, if `tight`, a line directly below the block before it."""
        if text := with_cents(storable(text)).strip("\n"):
            joint = "" if not self.blocks else "\n" if tight else "\n\n"
            self.blocks.append(joint + text)
            self.length += len(self.blocks[-1])

    def heading(self, level: int, text: str) -> None:
        if name := " ".join(with_cents(storable(text)).split()):
            level = min(max(level, 1), LEVELS)
            self.block(f"{'#' * level} {name}")
            self.levels.append((self.length - len(name) - level - 1, level, name))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Add a Markdown table whose first row is its header. Empty rows and columns are left out."""
        cells = [[" ".join(cell.split()) for cell in row] for row in rows if any(cell.strip() for cell in row)]
        width = max(map(len, cells), default=0)
        cells = [[*row, *[""] * (width - len(row))] for row in cells]
        columns = [column for column in zip(*cells, strict=True) if any(column)]
        if len(columns) < 2:
            for row in cells:
                self.block(" ".join(filter(None, row)))
            return
        lines = [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
        lines.insert(1, f"|{' --- |' * len(columns)}")
        self.block("\n".join(lines))

    def include(self, text: Extracted) -> None:
        """Add a text that is Markdown, with its headings."""
        before = self.length + 2 * bool(self.blocks)
        self.block(text.text)
        for at, path in text.headings:
            line = text.text[at : at + LEVELS + 1]
            level = len(line) - len(line.lstrip("#"))
            self.levels.append((before + at, level or 1, path.rpartition(" > ")[2]))

    def extracted(self, title: str = "", notes: Sequence[str] = (), *, has_sheets: bool = False) -> Extracted:
        """Return the text. Without a title, its first heading is the title, unless headings name sheets."""
        title = " ".join(storable(title).split())
        if not title and self.levels and not has_sheets:
            title = meaningful_title(self.levels[0][2])
        path: list[tuple[int, str]] = []
        headings: list[tuple[int, str]] = []
        for at, level, name in self.levels:
            path = [*(above for above in path if above[0] < level), (level, name)]
            shown = path[1:] if path[0][1] == title else path  # the title is always shown above
            headings.append((at, " > ".join(name for _, name in shown)))
        return Extracted("".join(self.blocks), title, True, headings, list(notes))
