"""Decode bytes to text by the rules of browsers: byte order mark, declared charset, <meta>, UTF-8, statistics.

Source: https://html.spec.whatwg.org/multipage/parsing.html#determining-the-character-encoding
"""

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from w3lib.encoding import html_body_declared_encoding, read_bom, resolve_encoding

from puffer.text import storable
from vectorstores.extraction.extracted import Unreadable

try:
    from chardetng_py import EncodingDetector  # Firefox's
except ImportError:  # there is no wheel for this platform
    EncodingDetector = None

PIECE = 1024 * 1024  # bytes that are examined at once
SAMPLE = 256 * 1024  # bytes of lines with other characters than ASCII, for the statistics
ESCAPE = b"\x1b"  # starts the sequences of ISO-2022-JP, which are ASCII and so valid UTF-8
DECLARING_TYPES = ("text/html", "application/xhtml+xml", "application/xml", "text/xml")
TEXT_CODEC = re.compile(r"utf-(8|16|32)|cp\d|iso|koi8|mac|gb|big5|shift_?jis|euc_|johab|hz$|hp-|ptcp|kz1048|tis|ascii")
ALPHABETS = ("ąćęłńóśźż", "áäčďéěíĺľňóôŕřšťúůýž", "áéíóöőúüű", "ăâîşţ", "čćđšž", "äöüß")
NEVER_IN_TEXT = re.compile(r"[\x01-\x08\x0e-\x1a\x1c-\x1f\ufffd]")
MOST_DAMAGE = 0.1  # share of such characters above which a file is not text

# What the admin offers. A command also takes the other names that browsers or Python know.
COMMON_ENCODINGS = (
    *("utf-8", "windows-1252", "windows-1250", "iso-8859-2", "windows-1251", "koi8-r", "windows-1253", "windows-1254"),
    *("windows-1255", "windows-1256", "windows-1257", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"),
    *("windows-874", "utf-16", "macintosh", "cp850", "cp437"),
)

IF_WRONG = "If characters look wrong, import it again and name its encoding."


@dataclass(frozen=True, slots=True)
class Encoding:
    """A Python codec and its error handler. `doubt` says why the codec may be wrong; "" if it is certain."""

    name: str
    errors: str = "replace"
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text, its lines ended by LF, and the encoding that decoded it."""

    text: str
    encoding: Encoding


def decode(data: bytes, charset: str | None = None, media_type: str = "") -> Decoded:
    """Decode a file. `charset` is what its sender or the user declares. Raise Unreadable if it is not text."""
    encoding = detect([data], charset, media_type)
    text = storable(data.decode(encoding.name, encoding.errors))
    start = text[:SAMPLE]
    if len(NEVER_IN_TEXT.findall(start)) > 8 + MOST_DAMAGE * len(start):
        raise Unreadable("It is not text, or it is damaged.")
    return Decoded(text.replace("\r\n", "\n").replace("\r", "\n"), encoding)


def known_encoding(label: str | None) -> str | None:
    """Return the codec for an encoding's name as browsers understand it ("latin1" is cp1252); None if it is unknown."""
    name = resolve_encoding(label.strip()) if label and label.isascii() and "\x00" not in label else None
    return name if name and TEXT_CODEC.match(name) else None


def detect(pieces: Iterable[bytes], charset: str | None = None, media_type: str = "") -> Encoding:
    """Find the encoding of a file that is given in pieces; the first one contains any declaration."""
    iterator = iter(pieces)
    first = next(iterator, b"")
    marked, _mark = read_bom(first)
    if marked == "utf-8":
        return marked_utf8(chain([first], iterator))
    if marked:
        return Encoding(marked[:6])  # "utf-16" and "utf-32" skip the mark
    declared = known_encoding(charset)
    if not declared and media_type in DECLARING_TYPES:
        declared = known_encoding(html_body_declared_encoding(first))
        if declared and declared.startswith(("utf-16", "utf-32")):
            declared = "utf-8"  # otherwise the declaration could not have been read
    if not declared and (wide := wide_encoding(first[:SAMPLE])):
        return Encoding(wide)
    return best_fitting(chain([first], iterator), declared)


def marked_utf8(pieces: Iterable[bytes]) -> Encoding:
    """Return UTF-8 with a byte order mark. Programs append bytes of an old encoding to such files, too."""
    trial = Trial("utf-8-sig")
    for piece in pieces:
        trial.feed(piece)
    trial.feed(b"", final=True)
    return partly_utf8("utf-8-sig", trial.invalid) if trial.invalid else Encoding("utf-8-sig")


def partly_utf8(name: str, invalid: int) -> Encoding:
    doubt = f"It is UTF-8, but {invalid} bytes in it are not: they were read as windows-1252. {IF_WRONG}"
    return Encoding(name, "windows_1252", doubt)


def wide_encoding(sample: bytes) -> str | None:
    """Recognize UTF-16 without a byte order mark: every other byte of ASCII characters is NUL."""
    half = len(sample) // 2
    if half < 2:
        return None
    even, odd = sample[: 2 * half : 2].count(0) / half, sample[1 : 2 * half : 2].count(0) / half
    if max(even, odd) < 0.4 or min(even, odd) > 0.05:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def best_fitting(pieces: Iterable[bytes], declared: str | None) -> Encoding:
    """Return the declared encoding if it fits, otherwise UTF-8 if that fits, otherwise what statistics say."""
    as_declared, as_utf8 = Trial(declared or "utf-8"), Trial("utf-8")
    sample = b""
    for piece in pieces:
        as_declared.feed(piece)
        as_utf8.feed(piece)
        if len(sample) < SAMPLE:
            sample += b"".join(line[:SAMPLE] for line in piece.splitlines(keepends=True) if shows_encoding(line))
    as_declared.feed(b"", final=True)
    as_utf8.feed(b"", final=True)
    is_utf8 = not as_utf8.invalid
    if declared and not as_declared.invalid and not (declared == "cp1252" and is_utf8 and as_utf8.valid):
        return Encoding(declared)
    if is_utf8 and ESCAPE not in sample:
        return Encoding("utf-8", doubt=not_as_declared(declared, "utf-8"))
    guess = guess_by_statistics(sample[:SAMPLE])
    if is_utf8 and guess != "iso2022_jp":
        return Encoding("utf-8", doubt=not_as_declared(declared, "utf-8"))
    if as_utf8.valid > as_utf8.invalid:
        return partly_utf8("utf-8", as_utf8.invalid)
    if declared and as_declared.valid > as_declared.invalid:
        doubt = f"It is declared as {declared}, but {as_declared.invalid} characters of it are not. {IF_WRONG}"
        return Encoding(declared, doubt=doubt)
    return Encoding(guess, doubt=not_as_declared(declared, guess) or f"It was read as {guess}, a guess. {IF_WRONG}")


def shows_encoding(line: bytes) -> bool:
    return not line.isascii() or ESCAPE in line


def not_as_declared(declared: str | None, name: str) -> str:
    return f"It is declared as {declared}, but was read as {name}. {IF_WRONG}" if declared not in (None, name) else ""


class Trial:
    """A test of a codec: counts the characters outside ASCII that it decodes, and the sequences that it cannot."""

    def __init__(self, name: str) -> None:
        self.decoder = codecs.getincrementaldecoder(name)("count_invalid")
        self.valid = self.invalid = 0

    def feed(self, piece: bytes, *, final: bool = False) -> None:
        text = self.decoder.decode(piece, final)
        invalid = text.count(INVALID)
        self.invalid += invalid
        self.valid += len(text) - len(text.encode("ascii", "ignore")) - invalid


INVALID = "\U0010ffff"  # a noncharacter: no text contains it


def mark_invalid(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return INVALID, error.end


def read_as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Decode the bytes that are not UTF-8: old Windows programs appended them to a UTF-8 file."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("count_invalid", mark_invalid)
codecs.register_error("windows_1252", read_as_windows_1252)


def guess_by_statistics(sample: bytes) -> str:
    """Return the codec that is most likely, by statistics of characters."""
    if EncodingDetector is None:
        from charset_normalizer import from_bytes

        best = from_bytes(sample).best()
        return (best and known_encoding(best.encoding)) or "cp1252"
    detector = EncodingDetector()
    detector.feed(sample, last=True)
    guess = known_encoding(detector.guess(tld=None, allow_utf8=False)) or "cp1252"
    return central_european(sample) if guess in ("iso8859-2", "cp1250") else guess


def central_european(sample: bytes) -> str:
    """Choose between two encodings that share most letters, by the one that leaves the fewest in other alphabets."""

    def strange_letters(name: str) -> int:
        letters = [letter for letter in sample.decode(name, "replace").lower() if not letter.isascii()]
        return len(letters) - max(sum(letter in alphabet for letter in letters) for alphabet in ALPHABETS)

    return min(("iso8859-2", "cp1250"), key=strange_letters)
