"""Chat completions of odd shapes."""

from tests.support.providers.answers import (
    chat_chunk,
)

PROTOCOLS = ["openai", "claude", "google"]


HELLO = chat_chunk({"content": "Hello"})
