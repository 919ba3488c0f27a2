"""The text extracted from a file of any format, and the errors of files without text."""

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime


def iso_date(text: str) -> str:
    """Return the date with which a date and time in ISO 8601 begins, "" for other texts."""
    try:
        return datetime.fromisoformat(text.strip()[:10]).strftime("%Y-%m-%d")
    except ValueError:
        return ""


class Unreadable(Exception):
    """A source, or a part of it, that cannot be read; the message says why."""


class LeftOut(Exception):
    """A document that its author has not published, for example a draft; the message says why."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A text, and (character, heading path "A > B") for each heading in it, in order.

    `notes` say for users what may be wrong with the text, for example that its encoding was guessed.
    """

    text: str
    title: str = ""
    is_markdown: bool = False
    headings: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    date: str = ""  # YYYY-MM-DD of the last change, as far as the document tells

    def headings_at(self, character: int) -> str:
        """Return the heading path of the section that contains the character; "" above the first heading."""
        before = bisect_right(self.headings, character, key=lambda heading: heading[0])
        return self.headings[before - 1][1] if before else ""
