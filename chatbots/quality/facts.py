"""The facts in a text that must stand in its sources: numbers, dates, times, codes, addresses, names and quotations.

    text -> quotations, addresses, dates, times, codes, numbers, names: each is taken out of the text once it is found

A fact that can be written in another way (a small number as a word, a name in another form) is `uncertain`: if it is
missing in the sources, the text may still say what they say.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from logs.search import normalized
from puffer.text import normalize
from vectorstores.terms import WORD, codes_in, is_content, stem_of

MAX_CHARACTERS = 50_000  # of a text; later facts are not looked for
SMALL = 12  # numbers up to this one are often written as words, or count what the text lists

MARKUP = re.compile(
    r"^\s{0,12}(?:#{1,6}|[-*+>]|\d{1,3}[.)])\s+|[*_`~]{1,3}|\[(?=[^\]\n]{1,200}\]\()|\]\(", re.MULTILINE
)
QUOTATION = re.compile('[“„«]([^“”„«»\n]{2,200})[“”»]|「([^「」\n]{2,200})」|(?<!\\w)"([^"\n]{2,200})"(?!\\w)')
ADDRESS = re.compile(r"(?:https?://|www\.)[^\s<>()\[\]\"]{3,300}|[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
DATE = re.compile(
    r"(?<!\d)(?:(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})|(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}))(?!\d)"
)  # 2026-03-01, 01.03.2026 or 3/1/2026
TIME = re.compile(r"(?<![\w:.,])(\d{1,2}):([0-5]\d)(?!\d)|(?<![\w:.,])(\d{1,2})\s?[ap]\.?m\b", re.IGNORECASE)
QUANTITY = re.compile(r"\d+(?:[-./]?[^\W\d_]+)?")  # "45", "45cm", "45-day"
NUMBER = re.compile(r"(?<!\d)\d{1,3}(?:[ .,'\u2019]\d{3})+(?:[.,]\d{1,2})?(?!\d)|\d+(?:[.,]\d+)?")
CAPITALIZED = r"[A-Z\u00c0-\u00de][\w'\u2019-]{1,40}"
NAME = re.compile(rf"(?<!\w){CAPITALIZED}(?:[ \u00a0]{CAPITALIZED}){{1,6}}(?!\w)")
SENTENCE_START = re.compile(r"(?:\A|[.!?:\n])[\s\"'(\u201e\u201c]*\Z")
# Scripts without spaces between words: two neighboring characters take the place of a word.
WITHOUT_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as the text writes it, and the values of which one must stand in the sources, by kind."""

    text: str
    kind: str
    values: frozenset[str]
    uncertain: bool = False


class Sources:
    """The texts in which facts are looked up."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.text = plain("\n".join(texts))

    def support(self, fact: Fact) -> bool:
        match fact.kind:
            case "number":
                return bool(fact.values & self.numbers) or any(
                    len(value) > 4 and value in self.digits for value in fact.values
                )
            case "date":
                return bool(fact.values & self.dates)
            case "time":
                return bool(fact.values & self.times)
            case "code":
                return bool(fact.values & self.codes) or any(value in self.compact for value in fact.values)
            case "name":
                return any(f"\n{stem}" in self.words for stem in fact.values)
        return any(value in self.normalized for value in fact.values)

    def share_of(self, text: str) -> float:
        """Return the share of the text's content words whose stems begin words of the sources; 1 if it has none."""
        stems = set(content_stems(plain(text)))
        return sum(f"\n{stem}" in self.words for stem in stems) / len(stems) if stems else 1.0

    @cached_property
    def normalized(self) -> str:
        return " ".join(normalized(self.text).split())

    @cached_property
    def words(self) -> str:
        found = [*WORD.findall(self.normalized), *re.findall(r"\w+", self.normalized), *pairs_in(self.normalized)]
        return "\n".join(["", *found])

    @cached_property
    def compact(self) -> str:
        return re.sub(r"[\W_]+", "", self.normalized)

    @cached_property
    def digits(self) -> str:
        return re.sub(r"\D+", "", self.text)

    @cached_property
    def codes(self) -> set[str]:
        return codes_in(self.text)

    @cached_property
    def numbers(self) -> set[str]:
        numbers = {value for found in NUMBER.finditer(self.text) for value in values_of(found[0])}
        return numbers | {part for date in self.dates for part in date.split("-")}

    @cached_property
    def dates(self) -> set[str]:
        return {date_of(found) for found in DATE.finditer(self.text)}

    @cached_property
    def times(self) -> set[str]:
        return {time_of(found) for found in TIME.finditer(self.text)}


def facts_in(text: str) -> list[Fact]:
    """Return the facts of a text, which may be Markdown."""
    rest = MARKUP.sub(" ", plain(text))
    facts: dict[Fact, None] = {}
    for find in (quotations_in, addresses_in, dates_in, times_in, codes_in_text, names_in, numbers_in):
        characters = list(rest)
        for fact, (start, end) in find(rest):
            facts[fact] = None
            characters[start:end] = " " * (end - start)
        rest = "".join(characters)
    return list(facts)


Found = Iterator[tuple[Fact, tuple[int, int]]]


def quotations_in(text: str) -> Found:
    for found in QUOTATION.finditer(text):
        words = (found[1] or found[2] or found[3]).strip(" .,;:!?…")
        if words:
            yield Fact(words, "quotation", frozenset({" ".join(normalized(words).split())})), found.span()


def addresses_in(text: str) -> Found:
    for found in ADDRESS.finditer(text):
        address = found[0].rstrip(".,;:!?'*_/")
        yield Fact(address, "address", frozenset({normalized(address)})), found.span()


def dates_in(text: str) -> Found:
    """Yield dates in figures, which the sources may write in words, and their years."""
    for found in DATE.finditer(text):
        yield Fact(found[0], "date", frozenset({date_of(found)}), uncertain=True), found.span()
        year = found[1] or found[6]
        yield Fact(year, "number", frozenset({year})), found.span()


def times_in(text: str) -> Found:
    for found in TIME.finditer(text):
        on_the_hour = found[2] in (None, "00")  # "at nine" is the same
        yield Fact(found[0].strip(), "time", frozenset({time_of(found)}), on_the_hour), found.span()


def codes_in_text(text: str) -> Found:
    for found in WORD.finditer(text):
        word = found[0]
        if not QUANTITY.fullmatch(word) and any(map(str.isalpha, word)) and (codes := codes_in(word)):
            yield Fact(word, "code", frozenset(codes)), found.span()


def names_in(text: str) -> Found:
    """Yield two or more words with capital letters in a row, without the first word of a sentence."""
    for found in NAME.finditer(text):
        words = found[0].split()
        if SENTENCE_START.search(text[max(0, found.start() - 20) : found.start()]):
            words = words[1:]
        stems = frozenset(stem_of(word) for word in words if is_content(word.lower()))
        if len(stems) > 1:
            yield Fact(" ".join(words), "name", stems), (0, 0)  # its numbers, if any, are facts as well


def numbers_in(text: str) -> Found:
    for found in NUMBER.finditer(text):
        values = values_of(found[0])
        small = all(len(value) < 3 and value.isdigit() and int(value) <= SMALL for value in values)
        yield Fact(found[0], "number", values, small), found.span()


def values_of(number: str) -> frozenset[str]:
    """Return what a number may mean: "1.500" is 1500 or 1.5, "0049" is also 49."""
    digits = re.sub(r"[ .,'\u2019]", "", number)
    values = {digits, digits.lstrip("0") or "0"}
    if parts := re.fullmatch(r"(.*)[.,](\d+)", number):
        whole, decimals = re.sub(r"\D", "", parts[1]).lstrip("0") or "0", parts[2].rstrip("0")
        values = {f"{whole}.{decimals}" if decimals else whole} | (values if len(parts[2]) == 3 else set())
    return frozenset(values)


def date_of(found: re.Match[str]) -> str:
    """Return year, day and month, in whatever order the last two were written."""
    one, other = sorted((int(found[2] or found[4]), int(found[3] or found[5])))
    return f"{found[1] or found[6]}-{one}-{other}"


def time_of(found: re.Match[str]) -> str:
    """Return a time on a clock of twelve hours: "21:00" and "9 pm" are the same."""
    return f"{int(found[1] or found[3]) % 12}:{found[2] or '00'}"


def content_stems(text: str) -> Iterator[str]:
    text = ADDRESS.sub(" ", MARKUP.sub(" ", text))
    yield from pairs_in(normalized(text))
    for word in WORD.findall(WITHOUT_SPACES.sub(" ", text)):
        if is_content(word.lower()) and not word.isdigit():
            yield stem_of(word)


def pairs_in(text: str) -> Iterator[str]:
    for run in WITHOUT_SPACES.findall(text):
        yield from (run[start : start + 2] for start in range(max(1, len(run) - 1)))


def plain(text: str) -> str:
    """Return the text with digits of any script as 0 to 9, and in compatible Unicode form."""
    text = normalize("NFKC", text[:MAX_CHARACTERS])
    return "".join(str(int(character)) if character.isdecimal() else character for character in text)
