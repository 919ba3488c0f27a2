"""Unicode normalization of text from strangers, in linear time."""

import re
import unicodedata
from functools import cache
from typing import Literal

MAX_LENGTH = 1_000_000  # characters; what comes after them is left out
MAX_MARKS = 30  # in a row, as in the Stream-Safe Text Format of UAX #15
LAST_MARK = 0x1E94A  # of all that combine


def normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """Return the normalized text, with at most 30 combining marks in a row.

    Marks are sorted in quadratic time: 120 KB of two marks in turns would take seconds, during which nothing else runs.
    """
    if text.isascii():
        return text
    return unicodedata.normalize(form, heaps_of_marks().sub(shorten, text[:MAX_LENGTH]))


@cache
def heaps_of_marks() -> re.Pattern[str]:
    """Return a pattern for more marks in a row than are kept.

    Beyond U+FFFF it finds all characters of the planes that have marks, because a set of single ones is slow there.
    """
    marks = "".join(character for code in range(0x300, 0x10000) if combines(character := chr(code)))
    return re.compile(f"[{marks}\U00010000-{chr(LAST_MARK)}]{{{MAX_MARKS + 1},}}")


def shorten(heap: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for character in heap[0]:
        marks = marks + 1 if combines(character) else 0
        if marks <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)


def combines(character: str) -> bool:
    """Return whether the character is sorted among the marks of the one before: by itself, or once it is decomposed."""
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) > 0
