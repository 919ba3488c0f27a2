"""Calls that read a stream, and run on an event loop like a server's."""

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

HELLO = CompletionRequest("some-model", [Message("user", "Hi there")], instructions="Be nice.")
PROTOCOLS = ["openai", "claude", "google"]


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
