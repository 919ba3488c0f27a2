"""Answers that no model writes, and floods of events: they must not hold up the calls of others."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from logs.usage import recorder
from providers import registry
from providers.base import Capability, CompletionRequest, Message
from providers.calls import streamed_call
from providers.registry import get_provider
from puffer.api.errors import ApiError
from tests.support.providers.answers import (
    ANTHROPIC_START,
    COMPLETIONS,
    anthropic_piece,
    chat_chunk,
    google_chunk,
)

pytestmark = pytest.mark.django_db

LONG = 100_000 * "x"
PIECES = {
    "openai": [chat_chunk({"content": LONG})],
    "claude": [*ANTHROPIC_START, anthropic_piece(LONG)],
    "google": [google_chunk(LONG)],
}


def generate(api: Any, slug: str) -> Any:
    messages = [{"role": "user", "content": "Hi"}]
    return api.post("/generate", json={"provider": slug, "model": "some-model", "messages": messages})


@async_to_sync
async def failure_of_stream(slug: str, meanwhile: Callable[[], Awaitable[None]] | None = None) -> tuple[str, int]:
    """Return the message with which a stream fails, and the number of characters before."""
    others = asyncio.ensure_future(meanwhile()) if meanwhile else None
    length = 0
    try:
        provider = await get_provider(slug, Capability.COMPLETION)
        async with streamed_call(provider, CompletionRequest("some-model", [Message("user", "Hi")])) as call:
            async for chunk in call:
                length += len(chunk.text)
    except ApiError as error:
        return error.message, length
    finally:
        if others:
            others.cancel()
        await recorder.flush_usage()
        await registry.close_clients()
        await asyncio.sleep(0)
    raise AssertionError("the stream did not fail")


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: {}\n\n" * 20_000],
        [b"data: ping\n\n" * 20_000],
        [chat_chunk({"content": "<think>"}), chat_chunk({"content": "Hm. "}) * 5000],
        [chat_chunk({"content": "Hello"})[6:].strip() * 10_000],  # one JSON value after the other
    ],
)
def test_other_calls_get_their_turn_during_a_flood_of_events(upstream, pieces):
    upstream.will_stream(pieces)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    failure_of_stream("openai", take_turns)
    assert turns > 90


@pytest.mark.parametrize("slug", PIECES)
def test_a_whole_answer_that_no_model_writes_is_refused(api, upstream, slug):
    upstream.will_answer(json.dumps(COMPLETIONS[slug]).replace("Hi!", 42 * LONG).encode())
    refused = generate(api, slug)
    assert (refused.status_code, refused.json()["code"]) == (502, "http_request_failed")
    assert "answer is larger than 4194304 bytes" in refused.json()["message"]


@pytest.mark.parametrize("slug", PIECES)
def test_a_stream_that_no_model_writes_is_cut_off(upstream, slug):
    *start, piece = PIECES[slug]
    upstream.will_stream([*start, *11 * [piece]], then="silent")
    message, length = failure_of_stream(slug)
    assert "answer is longer than 1,000,000 characters" in message
    assert length <= 1_000_000
    assert upstream.client_hung_up.wait(1)


def test_a_huge_error_is_told_by_its_beginning(api, upstream):
    upstream.will_answer({"error": {"message": f"Too long: {10 * LONG}"}}, 400)
    message = generate(api, "openai").json()["message"]
    assert "Too long: xxx" in message
    assert len(message) < 1100
