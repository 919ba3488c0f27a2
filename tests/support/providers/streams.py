"""Streams of each protocol, and calls that read them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from logs.usage import recorder
from providers import registry
from providers.base import Capability, CompletionChunk, CompletionRequest, Message
from providers.calls import streamed_call
from providers.registry import get_provider
from puffer.api.errors import ApiError
from tests.support.providers.answers import (
    ANTHROPIC_END,
    ANTHROPIC_START,
    CHAT_END,
    anthropic_piece,
    chat_chunk,
    google_chunk,
)

HELLO = CompletionRequest("some-model", [Message("user", "Hi there")], instructions="Be nice.")
PROTOCOLS = ["openai", "claude", "google"]


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


def run_on_loop(calls: Callable[[], Any]) -> Any:
    """Return `await calls()`, run on an event loop that is shut down like a server's."""

    @async_to_sync
    async def run() -> Any:
        try:
            return await calls()
        finally:
            await recorder.flush_usage()
            await registry.close_clients()
            await asyncio.sleep(0)

    return run()


@asynccontextmanager
async def open_call(slug: str, request: CompletionRequest = HELLO) -> AsyncIterator[Any]:
    async with streamed_call(await get_provider(slug, Capability.COMPLETION), request) as call:
        yield call


def stream(slug: str, request: CompletionRequest = HELLO) -> list[CompletionChunk]:
    async def calls() -> list[CompletionChunk]:
        async with open_call(slug, request) as call:
            return [chunk async for chunk in call]

    return run_on_loop(calls)


def joined(chunks: list[CompletionChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def failure_of(slug: str, request: CompletionRequest = HELLO) -> tuple[ApiError, str]:
    """Return the stream's error and the text before it."""
    text_before: list[str] = []

    async def calls() -> None:
        async with open_call(slug, request) as call:
            async for chunk in call:
                text_before.append(chunk.text)

    with pytest.raises(ApiError) as raised:
        run_on_loop(calls)
    return raised.value, "".join(text_before)
