"""A response of server-sent events. Source: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from django.http import StreamingHttpResponse

HEARTBEAT = 15.0  # seconds without an event after which a comment keeps proxies from closing the stream

Event = tuple[str, Any]  # name and JSON-serializable data


class EventStream(StreamingHttpResponse):
    """A response that sends each event as it comes. `events` is closed when the client leaves; it must not raise."""

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self.pieces = encoded(events)
        super().__init__(self.pieces, content_type="text/event-stream; charset=utf-8")
        self["X-Accel-Buffering"] = "no"  # nginx would buffer the events


async def encoded(events: AsyncGenerator[Event, None], heartbeat: float = HEARTBEAT) -> AsyncGenerator[bytes, None]:
    """Yield the events as bytes. A single task produces them all, so that time limits and cancellation hit only it."""
    made: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def make() -> None:
        try:
            async with aclosing(events):
                async for name, data in events:
                    made.put_nowait(b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data)))
        finally:
            made.put_nowait(None)

    maker = asyncio.create_task(make())
    try:
        while True:
            try:
                async with asyncio.timeout(heartbeat):
                    event = await made.get()
            except TimeoutError:
                yield b": \n\n"
                continue
            if event is None:
                break
            yield event
        await maker
    finally:
        maker.cancel()
        await asyncio.gather(maker, return_exceptions=True)
