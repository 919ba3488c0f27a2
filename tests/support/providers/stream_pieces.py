"""The pieces of a stream in each protocol."""

from collections.abc import Callable

from tests.support.providers.answers import (
    ANTHROPIC_END,
    ANTHROPIC_START,
    CHAT_END,
    anthropic_piece,
    chat_chunk,
    google_chunk,
)


def start_of(slug: str) -> list[bytes]:
    """Return the start of a stream, with the text "Hello"."""
    return {
        "claude": [*ANTHROPIC_START, anthropic_piece("Hello")],
        "google": [google_chunk("Hello")],
    }.get(slug, [chat_chunk({"role": "assistant", "content": "Hello"})])


def piece_of(slug: str, text: str) -> bytes:
    make: dict[str, Callable[[str], bytes]] = {"claude": anthropic_piece, "google": google_chunk}
    return make.get(slug, lambda text: chat_chunk({"content": text}))(text)


def end_of(slug: str) -> list[bytes]:
    return {"claude": ANTHROPIC_END, "google": [google_chunk("", finishReason="STOP")]}.get(slug, CHAT_END)
