"""Streams that are stopped early: the connection to the provider and the estimated usage."""

import asyncio
import time
from contextlib import aclosing
from itertools import chain, repeat

import pytest

from logs.models import UsageEvent
from providers.base import Capability, CompletionRequest, Message, Usage
from providers.calls import streamed_call
from providers.registry import get_provider
from providers.tokens import estimate_usage
from tests.support.providers.answers import (
    CHAT_STREAM,
)
from tests.support.providers.recorded_usage import ESTIMATED, recorded_usage
from tests.support.providers.stream_pieces import piece_of, start_of
from tests.support.providers.streams import HELLO, PROTOCOLS, open_call, run_on_loop

pytestmark = pytest.mark.django_db


def silent_from_the_start(upstream):
    upstream.will_stall()


def silent_after_the_headers(upstream):
    upstream.will_stream([b": wait\n\n"], then="silent")


def silent_within_an_error(upstream):
    upstream.will_stall(after=b"HTTP/1.1 500 Oh\r\ncontent-length: 500\r\n\r\n{")


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("fall_silent", [silent_from_the_start, silent_after_the_headers, silent_within_an_error])
def test_canceling_before_the_first_chunk_closes_the_connection(upstream, slug, fall_silent):
    fall_silent(upstream)

    async def calls():
        async def ask():
            async with open_call(slug) as call:
                async for _ in call:
                    pass

        task = asyncio.ensure_future(ask())
        while not upstream.sent:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        canceled_at = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(
            upstream.client_hung_up.wait, 1
        )  # checked before the loop and its clients are closed
        assert time.monotonic() - canceled_at < 0.5

    run_on_loop(calls)
    assert recorded_usage() == (499, "", 4, 0)


def canceled_while_waiting(slug):
    """Return a call that is canceled while it waits for the next chunk."""

    async def calls(started_at):
        async with open_call(slug) as call:
            async for _ in call:
                started_at.set()

    return calls


def canceled_while_sending(slug):
    """Return a call that is canceled while it passes on a chunk."""

    async def calls(started_at):
        async with open_call(slug) as call:
            async for _ in call:
                started_at.set()
                await asyncio.sleep(60)

    return calls


async def turn(slug):
    async with open_call(slug) as call:
        async for chunk in call:
            yield chunk


def generator_that_is_closed(slug):
    """Return a call within a generator that is closed at its yield, as a turn is."""

    async def calls(started_at):
        async with aclosing(turn(slug)) as chunks:
            await anext(chunks)
            started_at.set()

    return calls


def generator_whose_reader_is_canceled(slug):
    async def calls(started_at):
        async for _ in turn(slug):
            started_at.set()

    return calls


def loop_with_a_break(slug):
    async def calls(started_at):
        async with open_call(slug) as call:
            async for _ in call:
                started_at.set()
                break

    return calls


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize(
    ("abandon", "status"),
    [
        (canceled_while_waiting, 499),
        (canceled_while_sending, 499),
        (generator_that_is_closed, 499),
        (generator_whose_reader_is_canceled, 499),
        (loop_with_a_break, 200),
    ],
)
@pytest.mark.parametrize("writing", [False, True])
def test_abandoning_a_stream_closes_the_providers_connection(upstream, slug, abandon, status, writing):
    if writing:
        upstream.will_stream(chain(start_of(slug), repeat(piece_of(slug, "."))), pause=0.02)
    else:
        upstream.will_stream(start_of(slug), then="silent")

    async def calls():
        started_at = asyncio.Event()
        task = asyncio.ensure_future(abandon(slug)(started_at))
        await started_at.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        canceled_at = time.monotonic()
        await asyncio.wait({task})
        assert await asyncio.to_thread(upstream.client_hung_up.wait, 1)
        assert time.monotonic() - canceled_at < 0.5

    run_on_loop(calls)
    assert recorded_usage()[:3] == (status, "", ESTIMATED[0])
    assert recorded_usage()[3] >= ESTIMATED[1]


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_closing_the_providers_own_stream_closes_the_connection(upstream, slug):
    upstream.will_stream(start_of(slug), then="silent")

    async def calls():
        provider = await get_provider(slug, Capability.COMPLETION)
        chunks = provider.stream(HELLO)
        assert await anext(chunk.text async for chunk in chunks if chunk.text) == "Hello"
        await chunks.aclose()
        assert await asyncio.to_thread(upstream.client_hung_up.wait, 1)

    run_on_loop(calls)


def test_many_canceled_calls(upstream):
    """No canceled call keeps its connection open, and each is recorded once."""
    for _ in range(30):
        upstream.will_stream(start_of("openai"), then="silent")

    async def calls():
        started_at = 0

        async def ask():
            nonlocal started_at
            async with open_call("openai") as call:
                async for _ in call:
                    started_at += 1

        tasks = [asyncio.ensure_future(ask()) for _ in range(30)]
        while started_at < 30:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run_on_loop(calls)
    assert list(UsageEvent.objects.values_list("status", "input_tokens", "output_tokens")) == 30 * [(499, *ESTIMATED)]


def test_an_error_in_our_code_is_recorded_and_closes_the_connection(upstream):
    upstream.will_stream(start_of("openai"), then="silent")

    async def calls():
        async with open_call("openai") as call:
            async for _ in call:
                raise LookupError

    with pytest.raises(LookupError):
        run_on_loop(calls)
    assert upstream.client_hung_up.wait(1)
    assert recorded_usage() == (500, "", *ESTIMATED)


def test_a_call_exposes_its_result(upstream, bot):
    upstream.will_stream(CHAT_STREAM)

    async def calls():
        provider = await get_provider("openai", Capability.COMPLETION)
        async with streamed_call(provider, HELLO, chatbot_id=bot.pk) as call:
            async for _ in call:
                pass
        return call

    call = run_on_loop(calls)
    assert (call.text, call.finish_reason, call.usage) == ("Hi!", "stop", Usage(11, 5, 16))
    assert call.milliseconds >= 0
    assert UsageEvent.objects.get().chatbot == bot


@pytest.mark.parametrize(
    ("characters_in", "characters_out", "counts"),
    [(0, 0, (0, 0, 0)), (1, 0, (1, 0, 1)), (8, 4, (2, 1, 3)), (9, 5, (3, 2, 5)), (4000, 400, (1000, 100, 1100))],
)
def test_an_estimate_counts_one_token_per_four_characters(characters_in, characters_out, counts):
    request = CompletionRequest("some-model", [Message("user", characters_in * "x")])
    assert estimate_usage(request, characters_out * "x") == Usage(*counts)
