"""The terms of a question or passage: its words, and the codes (part numbers, SKUs, error codes) among them."""

import re
from collections.abc import Sequence
from itertools import pairwise

from logs.search import normalized

MAX_TERMS = 32
MAX_TERM = 100  # characters

# A word, which may contain the punctuation of part numbers, versions, addresses and paths.
WORD = re.compile(r"\w+(?:[-.:/_@+]\w+)*")
STOP_WORDS = frozenset(
    WORD.findall(
        "a about an and any are as at be but by can could did do does for from get give had has have how i if in into "
        "is it its may me my no not of on or our shall should so some tell than that the their them there these they "
        "this to us was we were what when where which who whom whose why will with would you your"
    )
)
QUANTITY = re.compile(r"\d+[a-z]{1,3}")  # "10cm", "500ml", "2nd"
LETTERS, DIGITS = re.compile(r"[^\W\d_]{1,5}"), re.compile(r"\d{2,}")  # the parts of a code that is written apart
MIN_CODE = 3  # letters and digits
MIN_NUMBER = 5  # digits: shorter numbers are years, prices and amounts
PUNCTUATION = re.compile(r"[\W_]+")
BOUNDARY = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")  # between a letter and a digit


def terms_of(question: str) -> list[str]:
    """Return the words of the question without stop words, each once, in order; all words if only stop words remain."""
    words = list(dict.fromkeys(word.lower()[:MAX_TERM] for word in WORD.findall(question)))
    return ([word for word in words if is_content(word)] or words)[:MAX_TERMS]


def is_content(word: str) -> bool:
    return word not in STOP_WORDS and (len(word) > 1 or word.isdigit())


def codes_in(text: str, *, as_typed: bool = False) -> set[str]:
    """Return the codes of a text, without punctuation: "AB-1234", "ab1234" and "AB 1234" are all "ab1234".

    A code that is written apart needs capital letters ("AB 1234"), unless a visitor has typed it.
    """
    words = WORD.findall(text)
    codes = {compact for word in words if is_code(compact := PUNCTUATION.sub("", word.lower()))}
    return codes | {
        (one + other).lower()
        for one, other in pairwise(words)
        if LETTERS.fullmatch(one) and DIGITS.fullmatch(other) and (one.isupper() or as_typed)
    }


def is_code(compact: str) -> bool:
    """Return whether a word without punctuation is a code. "2025", "10cm" and "4th" are none."""
    if not any(character.isdigit() for character in compact) or len(compact) < MIN_CODE:
        return False
    return len(compact) >= MIN_NUMBER if compact.isdigit() else not QUANTITY.fullmatch(compact)


def spellings_of(term: str) -> list[str]:
    """Return how documents may write a term: a code "ab1234" also as "ab 1234" or "ab-1234"."""
    compact = PUNCTUATION.sub("", term)
    if not is_code(compact):
        return [term]
    return list(dict.fromkeys((term, compact, BOUNDARY.sub(" ", compact), BOUNDARY.sub("-", compact))))


def stems_of(question: str) -> list[str]:
    """Return the stems of the content words of a question."""
    return [stem_of(term) for term in terms_of(question) if is_content(term)]


def has_stems(text: str, stems: Sequence[str]) -> bool:
    """Return whether each of the stems begins a word of the text, and there are any."""
    words = "\n".join(["", *WORD.findall(normalized(text))])
    return bool(stems) and all(f"\n{stem}" in words for stem in stems)


def stem_of(term: str) -> str:
    """Return the beginning that forms and compounds of the term share, without case and accents."""
    bare = normalized(term)
    return bare[: max(4, len(bare) * 3 // 4)]
