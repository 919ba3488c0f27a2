"""Charts in text documents and presentations: their title and, as a table, the values that the file keeps of them."""

from collections.abc import Iterator
from typing import Any

from vectorstores.extraction.office.walk import value_of
from vectorstores.extraction.outline import Outline

MAX_SERIES, MAX_POINTS = 50, 1000


def write_chart(outline: Outline, root: Any) -> None:
    titles = (" ".join(text.text or "" for text in title.iter("{*}t")) for title in root.iter("{*}title"))
    if title := ", ".join(filter(str.strip, titles)):
        outline.block(title)
    rows: dict[int, list[str]] = {}
    header = [""]
    for series in list(root.iter("{*}ser"))[:MAX_SERIES]:
        names = [text for part in series.findall("{*}tx") for _, text in points(part)]
        header.append(" ".join(names) or "Value")
        for tag in ("cat", "xVal"):
            for at, text in points(series.find(f"{{*}}{tag}")):
                rows.setdefault(at, [""])[0] = text
        for tag in ("val", "yVal"):
            for at, text in points(series.find(f"{{*}}{tag}")):
                row = rows.setdefault(at, [""])
                row += [""] * (len(header) - len(row))
                row[len(header) - 1] = text
    if rows:
        outline.table([header, *(rows[at] for at in sorted(rows))])


def points(element: Any) -> Iterator[tuple[int, str]]:
    """Yield the texts or numbers that are stored for a part of a series, with their places."""
    if element is None:
        return
    for point in list(element.iter("{*}pt"))[:MAX_POINTS]:
        place, text = value_of(point, "idx"), point.findtext("{*}v") or ""
        if place.isdecimal() and len(place) < 8 and text.strip():
            yield int(place), text.strip()
