"""Clean untrusted text."""

import re
import unicodedata

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Zero-width spaces, soft hyphens, tags. Joiners stay, because Persian, Hindi and emoji need them.
INVISIBLE = re.compile(r"[\u00ad\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
# Characters that show text in another order than it is written.
BIDI = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
CONTROL_BUT_TAB_AND_LF = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

# Letters and marks without a shape: fillers, the blank of braille, variation selectors.
SHAPELESS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | set(map(chr, range(0xFE00, 0xFE10)))


def is_blank(text: str) -> bool:
    """Return whether nothing of a text can be seen: whitespace, control and format characters, fillers."""
    # Millions of blanks are removed faster than a set of them is made.
    return not any(map(is_visible, text[:100])) and not any(map(is_visible, set(text.replace(" ", ""))))


def is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ" and character not in SHAPELESS


def storable(text: str) -> str:
    """Remove NUL, and replace halves of surrogate pairs with "?", because a database or JSON cannot store them."""
    return text.replace("\x00", "").encode(errors="replace").decode()


def has_control_characters(text: str) -> bool:
    return CONTROL.search(text) is not None


def without_control_characters(text: str) -> str:
    """Trim the text, end its lines with LF and remove all other control characters but TAB. HTML stays."""
    return CONTROL_BUT_TAB_AND_LF.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def without_bidi(text: str) -> str:
    """Remove the characters with which a text can show another order than it has. Right-to-left scripts need none."""
    return BIDI.sub("", text)


def without_invisible(text: str) -> str:
    """Remove characters that readers cannot see, but models and computers can."""
    return INVISIBLE.sub("", without_bidi(text))


def one_line(text: str) -> str:
    """Put the text on one line: a space in place of each run of whitespace and control characters."""
    return " ".join(CONTROL.sub(" ", text).split())


def excerpt(text: str, length: int) -> str:
    """Return the first `length` characters on one line, with an ellipsis if there are more. Fast for long texts."""
    words = one_line(text[: 2 * length])
    return words if len(words) <= length and len(text) <= 2 * length else f"{words[: length - 1].rstrip()}…"
