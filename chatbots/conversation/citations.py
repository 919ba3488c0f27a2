"""Citations: the marks [n] with which a reply names the source of a statement. Pure functions.

Sources are numbered from 1, in the order of their first passage in the prompt. Passages of one document share a number.
"""

import re
from collections.abc import Sequence

from vectorstores.retrieval import Passage

MAX_UNDECIDED = 60  # characters
MAX_NUMBER = 99  # a longer number in brackets is a year, a status or an index
NUMBERS = r"\d{1,2}(?:\s?(?:[,;&]|-|\u2013)\s?\d{1,2})*"
NAMED = r"(?:passages?|sources?|\^)?:?\s?"
MARK = rf"\[{NAMED}{NUMBERS}\](?!\()|\u3010{NAMED}{NUMBERS}[^\u3011\n]{{0,30}}\u3011"  # "[1](" begins a link
TOKEN = re.compile(rf"(?P<space>[ \t]{{0,8}})(?P<mark>{MARK})|(?P<code>`+)|(?P<line>\n)", re.IGNORECASE)
# The end of a text that may become a mark, or the end of one, with what follows.
UNDECIDED = re.compile(r"[ \t]{0,8}(?:\[[^\[\]\n]{0,30}\]?|\u3010[^\u3011\n]{0,45})?\Z|`+\Z")
RANGE = re.compile(r"(\d+)\s?[-\u2013]\s?(\d+)")


def source_numbers(passages: Sequence[Passage]) -> list[int]:
    """Return the number of each passage's source."""
    numbers: dict[tuple[str, str], int] = {}
    return [numbers.setdefault((passage.collection, passage.document_id), len(numbers) + 1) for passage in passages]


class Citations:
    """The marks of one reply, which arrives in pieces.

    A mark in any form becomes [1] or [1][2]; one that names no source is removed. Code is left as it is.
    `cited` are the numbers that were marked. With `sources` = 0, every mark is removed.
    """

    def __init__(self, sources: int) -> None:
        self.sources = min(sources, MAX_NUMBER)
        self.cited: set[int] = set()
        self._undecided = ""
        self._code = ""  # the backquotes that opened the code

    def add(self, piece: str) -> str:
        """Return the text that can be shown now: all but an end that may belong to a mark."""
        text = self._undecided + piece
        found = UNDECIDED.search(text, max(0, len(text) - MAX_UNDECIDED))
        end = found.start() if found else len(text)
        self._undecided = text[end:]
        return self._resolve(text[:end])

    def end(self) -> str:
        """Return the rest of the text."""
        rest, self._undecided = self._undecided, ""
        return self._resolve(rest)

    def _resolve(self, text: str) -> str:
        return TOKEN.sub(self._resolve_token, text)

    def _resolve_token(self, token: re.Match[str]) -> str:
        if code := token["code"]:
            if not self._code:
                self._code = code
            elif len(code) >= len(self._code):
                self._code = ""
        elif token["line"] and len(self._code) < 3:
            self._code = ""  # code in a line ends with it, so that one lost backquote hides no marks
        elif token["mark"] and not self._code:
            numbers = [number for number in numbers_in(token["mark"]) if 1 <= number <= self.sources]
            self.cited.update(numbers)
            return token["space"] + "".join(f"[{number}]" for number in numbers) if numbers else ""
        return token[0]


def numbers_in(mark: str) -> list[int]:
    """Return the numbers of a mark, each once: "[1, 3-4]" is 1, 3, 4."""
    text = mark.partition("\u2020")[0]  # what follows is a line of the source
    spans = [range(int(first), int(last) + 1) for first, last in RANGE.findall(text)]
    numbers = [number for span in spans for number in span]
    numbers += [int(number) for number in re.findall(r"\d+", RANGE.sub(" ", text))]
    return sorted(set(numbers))


def without_marks(text: str) -> str:
    """Return a reply without its marks: in a later prompt they would name other sources."""
    citations = Citations(0)
    return citations.add(text) + citations.end()
