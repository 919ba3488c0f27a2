"""Text from strangers, made safe to store and short enough to list."""


def storable(text: str) -> str:
    """Return the text without NUL and lone surrogates, which databases and JSON cannot hold."""
    return text.replace("\x00", "").encode(errors="replace").decode()


def one_line(text: str, length: int) -> str:
    """Return the beginning of the text on one line, for a list."""
    words = " ".join(text[: 2 * length].split())
    return words if len(words) <= length and len(text) <= 2 * length else f"{words[: length - 1].rstrip()}…"
