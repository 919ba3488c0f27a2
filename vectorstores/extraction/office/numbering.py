"""The numbers that Word shows before paragraphs and headings: "1.", "2.1", "a)". Source: ECMA-376, part 1, 17.9

They are not in the text but in definitions of lists, so they are counted here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vectorstores.extraction.office.archive import Archive
from vectorstores.extraction.office.styles import Styles
from vectorstores.extraction.office.walk import small_number, value_of

LEVELS = 9
MOST = 30_000  # the largest number to start from
LONGEST = 50  # characters of a label
BULLET = "- "
PLACEHOLDER = re.compile(r"%([1-9])")
ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
         (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Level:
    """How one level of a list is numbered: from `start`, in a `format` like "lowerRoman", as `text` like "%1.%2"."""

    start: int = 1
    format: str = "bullet"
    text: str = ""
    is_decimal: bool = False  # whether the levels above are shown in decimals, whatever their format

    @classmethod
    def of(cls, element: Any) -> "Level":
        start = small_number(value_of(element.find("{*}start")))
        return cls(
            min(start, MOST) if start is not None else 1,
            value_of(element.find("{*}numFmt")) or "decimal",
            value_of(element.find("{*}lvlText"))[:LONGEST],
            element.find("{*}isLgl") is not None,
        )


@dataclass
class List:
    """A list with its levels and how far each has been counted. Lists of one definition count together."""

    levels: Mapping[int, Level]
    counts: dict[int, int]
    restarts: dict[int, int] = field(default_factory=dict)  # level -> the number at which this list starts once


class Numbering:
    """The lists of a document, by the numbers that paragraphs and styles name."""

    def __init__(self, root: Any, styles: Styles) -> None:
        self.styles = styles
        self.lists: dict[str, List] = {}
        found = [] if root is None else list(root.iter("{*}abstractNum"))
        self.linked = levels_of_styles(found)
        definitions = {value_of(definition, "abstractNumId"): definition for definition in found}
        by_style = {value_of(definition.find("{*}styleLink")): definition for definition in found}
        counts: dict[str, dict[int, int]] = {}
        for number in [] if root is None else root.iter("{*}num"):
            name = value_of(number.find("{*}abstractNumId"))
            definition = definitions.get(name)
            if definition is None:
                continue
            if style := value_of(definition.find("{*}numStyleLink")):  # its levels are in another definition
                definition = by_style.get(style, definition)
            levels = {level_number(level): Level.of(level) for level in definition.iter("{*}lvl")}
            restarts: dict[int, int] = {}
            for override in number.iter("{*}lvlOverride"):
                at, start = level_number(override), small_number(value_of(override.find("{*}startOverride")))
                if start is not None:
                    restarts[at] = min(start, MOST)
                if (level := override.find("{*}lvl")) is not None:
                    levels[at] = Level.of(level)
            self.lists[value_of(number, "numId")] = List(levels, counts.setdefault(name, {}), restarts)

    @classmethod
    def of(cls, archive: Archive, related: Mapping[str, tuple[str, str]], styles: Styles) -> "Numbering":
        name = next((part for kind, part in related.values() if kind == "numbering"), "")
        return cls(archive.xml(name) if name in archive else None, styles)

    def label(self, paragraph: Any) -> str:
        """Return the number of a paragraph and count it, BULLET for an item of a list without numbers, "" for others.

        The number ends with a blank if it belongs to the paragraph itself, and not to its style as that of a clause.
        """
        own = paragraph.find("{*}pPr/{*}numPr")
        style_id = value_of(paragraph.find("{*}pPr/{*}pStyle"))
        list_id, level = named_in(own)
        if own is None or not list_id:
            list_id, style_level = self.of_style(style_id)
            level = style_level if level is None else level
        if list_id == "0":
            return ""
        found = self.lists.get(list_id)
        if found is None:
            return BULLET if own is not None else ""
        label = numbered(found, level or 0)
        return f"{label} " if label and own is not None and not label.endswith(" ") else label

    def of_style(self, style_id: str) -> tuple[str, int | None]:
        """Return the list that a style, or one that it is based on, names, and the level."""
        for name, style in self.styles.with_bases(style_id):
            list_id, level = named_in(style.find("{*}pPr/{*}numPr"))
            if list_id:
                return list_id, self.linked.get(name, level)
        return "", None


def levels_of_styles(definitions: Sequence[Any]) -> dict[str, int]:
    """Return which style stands for which level of its list."""
    levels = [level for definition in definitions for level in definition.iter("{*}lvl")]
    return {value_of(level.find("{*}pStyle")): level_number(level) for level in levels}


def named_in(properties: Any) -> tuple[str, int | None]:
    """Return the list and the level in an element numPr."""
    if properties is None:
        return "", None
    level = small_number(value_of(properties.find("{*}ilvl")))
    return value_of(properties.find("{*}numId")), level if level is not None and level < LEVELS else None


def level_number(element: Any) -> int:
    level = small_number(value_of(element, "ilvl"))
    return level if level is not None and level < LEVELS else 0


def numbered(found: List, at: int) -> str:
    """Count a paragraph at a level and return its number."""
    level = found.levels.get(at, Level())
    restart = found.restarts.pop(at, None)
    found.counts[at] = restart if restart is not None else found.counts.get(at, level.start - 1) + 1
    for deeper in range(at + 1, LEVELS):
        found.counts.pop(deeper, None)
    if level.format == "bullet":
        return BULLET
    if level.format == "none":
        return ""

    def number(match: re.Match[str]) -> str:
        above = int(match[1]) - 1
        other = found.levels.get(above, Level(format="decimal"))
        count = found.counts.setdefault(above, other.start)
        return written(count, "decimal" if level.is_decimal else other.format)

    return PLACEHOLDER.sub(number, level.text)[:LONGEST].strip()


def written(count: int, format: str) -> str:
    """Write a number in a format of Word; in decimals if the format is of another script."""
    if format == "none":
        return ""
    if format in ("lowerLetter", "upperLetter") and 0 < count <= 26 * 4:
        letters = chr(ord("a") + (count - 1) % 26) * ((count - 1) // 26 + 1)  # after "z" comes "aa", "bb"
        return letters.upper() if format == "upperLetter" else letters
    if format in ("lowerRoman", "upperRoman") and 0 < count < 4000:
        letters = ""
        for value, sign in ROMAN:
            letters += sign * (count // value)
            count %= value
        return letters.upper() if format == "upperRoman" else letters
    return f"{count:02}" if format == "decimalZero" else str(count)
