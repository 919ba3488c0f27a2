"""Banned words and phrases: found whatever the letter case, invisible characters, decorations and look-alikes."""

import re
import unicodedata
from functools import cache, lru_cache
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick
from confusable_homoglyphs.utils import load

from puffer.text import normalize

ENTRY_END = re.compile(r"[,\n\r]")
# Scripts without spaces between words, so a banned word matches anywhere: Thai, Lao, Myanmar, Khmer, kana, Han.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Characters that no font shows, in addition to the categories Cc and Cf: Unicode's Default_Ignorable_Code_Point, and
# blanks that are no white space.
INVISIBLE = [
    0x34F, *range(0x115F, 0x1161), *range(0x17B4, 0x17B6), *range(0x180B, 0x1810), 0x2065, 0x2800, 0x3164,
    *range(0xFE00, 0xFE10), 0xFFA0, *range(0xFFF0, 0xFFF9), 0xFFFC, 0x1D159, *range(0xE0000, 0xE1000),
]  # fmt: skip
LONG_WHEN_WRITTEN_OUT = "\ufdfa\ufdfb"  # single characters that NFKC expands to a whole phrase
# Marks that NFKC does not compose with a Latin letter, such as strokes through it.
DECORATION = re.compile(r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
WORD = re.compile(r"\w+")
# Names of letters that Unicode treats as separate symbols, so that NFKC keeps them.
LETTER = re.compile(r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER) ([A-Z])")


class Phrases:
    """Banned words and phrases, all found in one pass over a text, however they overlap."""

    def __init__(self, phrases: list[list[str]]) -> None:
        self.automaton = AhoCorasick(map(joined, phrases))

    def occur_in(self, text: str) -> bool:
        text = visible(text)
        return self.are_among(words_of(text)) or (not text.isascii() and self.are_among(words_of(latinized(text))))

    def are_among(self, words: list[str]) -> bool:
        return bool(self.automaton.find_matches_as_indexes(joined(words)))


@lru_cache(maxsize=64)
def phrases_in(banned_words: str) -> Phrases:
    """Return the words and phrases of a text that separates them by commas or lines."""
    return Phrases([words for entry in ENTRY_END.split(banned_words) if (words := words_of(visible(entry)))])


def joined(words: list[str]) -> str:
    """Return the words with spaces around each, so that only whole words match."""
    return f" {' '.join(words)} "


def visible(text: str) -> str:
    """Return the text without invisible characters, in NFKC and in plain letters."""
    return normalize("NFKC", text.translate(patterns().shown))


def words_of(text: str) -> list[str]:
    """Split a visible text into words and single symbols, without letter case."""
    return patterns().word_or_symbol.findall(normalize("NFKC", text.casefold()).replace("_", " "))


def latinized(text: str) -> str:
    """Return the text with Latin letters in place of their look-alikes in other scripts, and without decorations.

    Words of one script stay if the text is really written in it: if it has a letter that looks like no Latin one.
    """
    table = look_alikes()
    text = DECORATION.sub("", text)
    scripts = {
        script(letter) for letter in text if letter.isalpha() and not letter.isascii() and ord(letter) not in table
    }

    def latin(word: re.Match[str]) -> str:
        is_of_a_script = len(used := {script(letter) for letter in word[0] if letter.isalpha()}) == 1
        return word[0] if is_of_a_script and used <= scripts else word[0].translate(table)

    return WORD.sub(latin, text)


@lru_cache(maxsize=4096)
def script(letter: str) -> str:
    """Return the first word of the letter's name: LATIN, CYRILLIC, GREEK."""
    return unicodedata.name(letter, "").partition(" ")[0]


@cache
def look_alikes() -> dict[int, str]:
    """Return the Latin letter that each character looks like, by Unicode's list of confusables."""
    table = {}
    for character, similar in load("confusables.json").items():
        letters = [
            other["c"] for other in similar if len(other["c"]) == 1 and other["c"].isascii() and other["c"].isalpha()
        ]
        if len(character) == 1 and not character.isascii() and letters:
            table[ord(character)] = min(letters, key=lambda letter: (letter != "l", letter.isupper(), letter)).lower()
    return table


class Patterns(NamedTuple):
    shown: dict[int, str | None]  # for str.translate(); None removes the character
    word_or_symbol: re.Pattern[str]


@cache
def patterns() -> Patterns:
    """Return the patterns, which include the marks that `\\w` lacks: accents, and the vowel signs of many languages.

    Marks beyond U+FFFF belong to rare scripts; ignoring them makes the patterns 10 times as fast.
    """
    categories = {chr(code): unicodedata.category(chr(code)) for code in range(0x1FB00)}
    marks = "".join(mark for mark, category in categories.items() if category[0] == "M" and mark <= "\uffff")
    rare_marks = {ord(mark) for mark, category in categories.items() if category[0] == "M" and mark > "\uffff"}
    control = {  # those of higher code points are in INVISIBLE
        ord(character)
        for character, category in categories.items()
        if category == "Cf" or (category == "Cc" and not character.isspace())
    }
    letters = {
        ord(symbol): found[1].lower()
        for symbol in categories
        if (found := LETTER.fullmatch(unicodedata.name(symbol, "")))
    }
    unseen = dict.fromkeys(rare_marks | control | {*INVISIBLE, *map(ord, LONG_WHEN_WRITTEN_OUT)})
    return Patterns(
        shown=unseen | letters,
        word_or_symbol=re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])[\w{marks}])+|[^\w\s]"),
    )
