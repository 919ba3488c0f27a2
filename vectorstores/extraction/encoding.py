"""Bytes to text."""

from puffer.text import storable

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def decode(data: bytes, charset: str | None = None) -> str:
    """Decode by the declared encoding, then UTF-8, then the one of old Windows files, which accepts nearly anything."""
    marked = "utf-16" if data.startswith(UTF16_MARKS) else None
    for encoding in (charset, marked, "utf-8-sig", "cp1252"):
        try:
            if encoding:
                return storable(data.decode(encoding)).replace("\r\n", "\n").replace("\r", "\n")
        except (UnicodeDecodeError, LookupError):
            continue
    return storable(data.decode(errors="replace"))
