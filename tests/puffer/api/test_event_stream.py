"""Server-sent events: format, heartbeats, and closing the source when the stream ends."""

import asyncio
from contextlib import aclosing

import pytest
from asgiref.sync import async_to_sync

from puffer.api.event_stream import encoded


async def event_source(*events, pause=0.0, closed=None):
    try:
        for event in events:
            await asyncio.sleep(pause)
            yield event
    finally:
        if closed is not None:
            await asyncio.sleep(0)  # cleanup may have to await, for instance a database
            closed.append(True)


@async_to_sync
async def read(events, heartbeat=60.0):
    return [piece async for piece in encoded(events, heartbeat)]


def test_an_event_is_a_name_and_a_line_of_json():
    written = read(event_source(("start", {"id": 1}), ("delta", {"text": "a\nb\r\n\u2028ü"})))
    assert written == [
        b'event: start\ndata: {"id":1}\n\n',
        'event: delta\ndata: {"text":"a\\nb\\r\\n\u2028ü"}\n\n'.encode(),
    ]


def test_a_quiet_stream_sends_heartbeats():
    written = read(event_source(("done", {}), pause=0.25), heartbeat=0.1)
    assert written[-1] == b"event: done\ndata: {}\n\n"
    assert set(written[:-1]) == {b": \n\n"}


def test_the_source_is_closed_when_the_reader_stops():
    closed = []

    @async_to_sync
    async def stop_early():
        async with aclosing(encoded(event_source(("start", {}), ("done", {}), pause=0.05, closed=closed))) as pieces:
            async for _ in pieces:
                break
        return list(closed)

    assert stop_early() == [True]


def test_the_source_is_closed_when_the_task_is_cancelled():
    closed = []

    @async_to_sync
    async def stop_early():
        async def read_all():
            async for _ in encoded(event_source(("start", {}), ("done", {}), pause=10, closed=closed)):
                pass

        task = asyncio.create_task(read_all())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(closed)

    assert stop_early() == [True]


def test_an_error_in_the_source_ends_the_stream():
    async def failing():
        yield "start", {}
        raise ValueError("not foreseen")

    with pytest.raises(ValueError, match="not foreseen"):
        read(failing())
