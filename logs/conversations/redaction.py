"""Redaction of personal data in texts: e-mail addresses, phone numbers, card numbers, IBANs.

Every pattern is bounded, so that the time grows with the length of a text only, whatever it contains.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from stdnum import numdb
from stdnum.iso7064 import mod_97_10

# The registry's pattern, such as 8!n10!n for Germany, describes the part after the country and two check digits.
IBAN_LENGTHS = {
    country: 4 + sum(map(int, re.findall("[0-9]+", properties["bban"])))
    for _, country, _, properties, _ in numdb.get("iban").prefixes
}
MANY_FAILURES = 2000
DOUBLED = bytes.maketrans(b"0123456789", bytes([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]))  # digit -> digit sum of its double


def without_separators(text: str) -> str:
    return text.replace(" ", "").replace("-", "").replace("\xa0", "")


def iban_in(candidate: str) -> int:
    """Return how many characters are an IBAN, or 0. The words after it may look like further groups of it."""
    length = IBAN_LENGTHS.get(candidate[:2].upper(), 99)
    characters = without_separators(candidate)[:length].upper()
    if len(characters) < length or not mod_97_10.is_valid(characters[4:] + characters[:4]):
        return 0
    end = length if candidate[4].isalnum() else length + (length - 1) // 4
    return 0 if candidate[end : end + 1].isalnum() else end


def card_number_in(candidate: str) -> int:
    """Return how many characters are a card number, or 0. Its security code may follow as one more group."""
    if passes_luhn(candidate):
        return len(candidate)
    return 19 if len(candidate) == 23 and passes_luhn(candidate[:19]) else 0


def passes_luhn(text: str) -> bool:
    digits = without_separators(text).encode()[::-1]
    plain, others = digits[::2], digits[1::2].translate(DOUBLED)
    return (sum(plain) - ord("0") * len(plain) + sum(others)) % 10 == 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of personal data. `length_in` returns how many characters of a candidate match, or 0."""

    marker: str
    candidate: re.Pattern[str]
    length_in: Callable[[str], int] = len


# In the order of the search: a part of an IBAN or of a card number may look like a phone number.
REDACTION_KINDS = {
    "iban": Kind(
        "[IBAN]",
        re.compile(
            r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}"
            r"(?:[A-Za-z0-9]{11,30}+|(?:[ \xa0-][A-Za-z0-9]{4}){2,7}+(?:[ \xa0-][A-Za-z0-9]{1,3})?)"
        ),
        iban_in,
    ),
    "card": Kind(
        "[card]",
        re.compile(
            r"(?<![0-9])(?:[2-6][0-9]{12,18}"
            r"|[2-6][0-9]{3}([ \xa0-])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?"
            r"|3[0-9]{3}([ \xa0-])[0-9]{6}\2[0-9]{5})(?![0-9])"
        ),
        card_number_in,
    ),
    # With a country or area prefix, or grouped as in North America: other digits may mean anything.
    "phone": Kind(
        "[phone]",
        re.compile(
            r"(?<![\w+])(?<![0-9][./-])"
            r"(?![0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{2,4}(?![0-9]))(?!0\.)(?:"  # not a date, not a decimal
            r"\(?(?:\+|00)[0-9](?:[ \xa0./()-]{0,3}[0-9]){7,14}"
            r"|\(?0[0-9]?(?:[ \xa0./()-]{0,3}[0-9]){6,11}"
            r"|(?:1[ .-]?)?(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}"
            r")(?!-?\w)"
        ),
    ),
    # The part before the @ is Latin, or it ends with a character of another script. In languages without spaces, other
    # text may stand directly before a Latin address.
    "email": Kind(
        "[e-mail]",
        re.compile(
            r"(?:(?<![A-Za-z0-9À-ɏ])[A-Za-z0-9À-ɏ][A-Za-z0-9À-ɏ._%+'-]{0,63}+"
            r"|(?<!\w)\w[\w.%+'-]{0,63}+(?<![A-Za-z0-9À-ɏ._%+'-]))"
            r"@(?:[\w-]{1,63}\.){1,8}(?:[A-Za-z]{2,63}|[^\W\d_]{2,63})"
        ),
    ),
}


def redact(text: str, kinds: Collection[str]) -> tuple[str, dict[str, int]]:
    """Return the text with a marker in place of each match, and the number of matches of each kind."""
    counts = {}
    for name, kind in REDACTION_KINDS.items():
        if name in kinds:
            text, count = _replace(text, kind)
            if count:
                counts[name] = count
    return text, counts


def _replace(text: str, kind: Kind) -> tuple[str, int]:
    parts: list[str] = []
    begin = position = failures = 0
    while found := kind.candidate.search(text, position):
        if length := kind.length_in(found[0]):
            parts += [text[begin : found.start()], kind.marker]
            begin = position = found.start() + length
        else:
            # The next match may begin within this candidate, but a text full of false candidates must not take long.
            failures += 1
            position = found.start() + 1 if failures < MANY_FAILURES else found.end()
    return "".join([*parts, text[begin:]]), len(parts) // 2
