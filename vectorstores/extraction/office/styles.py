"""The styles of paragraphs in Word, which may be based on each other: levels of headings and numbering."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vectorstores.extraction.office.archive import Archive
from vectorstores.extraction.office.walk import small_number, value_of

MAX_BASES = 20  # styles that are based on each other
HEADING_LEVELS = 9


@dataclass(frozen=True, slots=True)
class Styles:
    """The elements of the styles, by their ids, which are in the language of the author."""

    elements: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, archive: Archive, related: Mapping[str, tuple[str, str]]) -> "Styles":
        name = next((part for kind, part in related.values() if kind == "styles"), "")
        found = archive.xml(name).iter("{*}style") if name in archive else ()
        return cls({value_of(style, "styleId"): style for style in found})

    def with_bases(self, style_id: str) -> Iterator[tuple[str, Any]]:
        """Yield a style and the styles that it is based on, with their ids."""
        for _ in range(MAX_BASES):
            if (style := self.elements.get(style_id)) is None:
                return
            yield style_id, style
            style_id = value_of(style.find("{*}basedOn"))

    def level(self, style_id: str) -> int:
        """Return the level of a heading, 0 for another style."""
        if style_id not in self.elements:
            named = {"Title": 1, **{f"Heading{level}": level for level in range(1, 7)}}
            return named.get(style_id, 0)
        for _, style in self.with_bases(style_id):
            name = value_of(style.find("{*}name"))
            outline_level = small_number(value_of(style.find("{*}pPr/{*}outlineLvl")))
            if name.lower().startswith("heading ") and name[8:].isdecimal():
                return int(name[8:10])
            if name.lower() == "title":
                return 1
            if outline_level is not None:
                return outline_level + 1 if outline_level < HEADING_LEVELS else 0
        return 0
