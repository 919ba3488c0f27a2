"""Server-sent events: how they are written, what keeps a quiet stream alive, and what closing one ends."""

import asyncio
from contextlib import aclosing

import pytest
from asgiref.sync import async_to_sync

from puffer.api.event_stream import encoded


async def some(*events, pause=0.0, ended=None):
    try:
        for event in events:
            await asyncio.sleep(pause)
            yield event
    finally:
        if ended is not None:
            await asyncio.sleep(0)  # what ends may have to wait, for a database for instance
            ended.append(True)


@async_to_sync
async def read(events, heartbeat=60.0):
    return [piece async for piece in encoded(events, heartbeat)]


def test_an_event_is_a_name_and_a_line_of_json():
    written = read(some(("start", {"id": 1}), ("delta", {"text": "a\nb\r\n\u2028ü"})))
    assert written == [
        b'event: start\ndata: {"id":1}\n\n',
        'event: delta\ndata: {"text":"a\\nb\\r\\n\u2028ü"}\n\n'.encode(),
    ]


def test_a_quiet_stream_shows_that_it_lives():
    written = read(some(("done", {}), pause=0.25), heartbeat=0.1)
    assert written[-1] == b"event: done\ndata: {}\n\n"
    assert set(written[:-1]) == {b": \n\n"}


def test_what_makes_the_events_is_closed_when_nobody_reads_on():
    ended = []

    @async_to_sync
    async def leave():
        async with aclosing(encoded(some(("start", {}), ("done", {}), pause=0.05, ended=ended))) as pieces:
            async for _ in pieces:
                break
        return list(ended)

    assert leave() == [True]


def test_what_makes_the_events_is_closed_when_the_task_is_cancelled():
    ended = []

    @async_to_sync
    async def leave():
        async def read_all():
            async for _ in encoded(some(("start", {}), ("done", {}), pause=10, ended=ended)):
                pass

        task = asyncio.create_task(read_all())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(ended)

    assert leave() == [True]


def test_a_failure_of_the_events_ends_the_stream():
    async def failing():
        yield "start", {}
        raise ValueError("not foreseen")

    with pytest.raises(ValueError, match="not foreseen"):
        read(failing())
