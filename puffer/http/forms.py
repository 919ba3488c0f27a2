"""URL-encoded forms, decoded in slices: Python's own decoder would stop all other requests during a large field."""

from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

SLICE = 100_000  # bytes that are decoded at once, which takes up to 10 ms


def form_fields(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each field, blank ones too. A body that is not UTF-8 is read as Latin-1."""
    try:
        body.decode()
    except UnicodeDecodeError:
        body = body.decode("latin-1").encode()
    for field in body.split(b"&"):
        if field:
            name, _, value = field.partition(b"=")
            yield decoded(name), decoded(value)


def decoded(text: bytes) -> str:
    """Resolve `+` and `%XX`. Bytes that are not UTF-8 become U+FFFD."""
    return b"".join(unquote_to_bytes(piece.replace(b"+", b" ")) for piece in slices(text)).decode(errors="replace")


def slices(text: bytes) -> Iterator[bytes]:
    """Cut the text into pieces of at most SLICE bytes, but not within a `%XX`."""
    start = 0
    while start < len(text):
        end = start + SLICE
        if end < len(text) and b"%" in text[end - 2 : end]:
            end = text.rindex(b"%", end - 2, end)
        yield text[start:end]
        start = end
