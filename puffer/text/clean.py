"""Strangers' words, as we can keep and show them."""


def storable(text: str) -> str:
    """As any database and any JSON can hold it: without NUL and halves of surrogate pairs."""
    return text.replace("\x00", "").encode(errors="replace").decode()


def one_line(text: str, length: int) -> str:
    """Its beginning, for a list: of any text, quickly."""
    words = " ".join(text[: 2 * length].split())
    return words if len(words) <= length and len(text) <= 2 * length else f"{words[: length - 1].rstrip()}…"
