"""Read the server-sent events of a streamed completion: response -> events -> pieces of text.

httpx2 parses the stream; each adapter interprets its events.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import httpx2
import orjson

from providers.base import CompletionChunk, Provider, Usage
from providers.upstream_errors import broken_off, without_text
from puffer.text import storable

DONE = "[DONE]"  # the last event in OpenAI's protocol
END_SECONDS = 0.1  # for the end of a body after its last event


@asynccontextmanager
async def events_of(response: httpx2.Response) -> AsyncIterator[AsyncGenerator[Any, None]]:
    """Yield the JSON of each event as it arrives, and close the response afterwards.

    An exception in the block also closes the connection, which makes the provider stop. Otherwise the rest of the body
    is read, so that the connection can be reused.
    """
    async with aclosing(response), aclosing(read_events(response)) as events:
        yield events
        if not response.is_closed:
            await read_to_the_end(response)


async def read_events(response: httpx2.Response) -> AsyncGenerator[Any, None]:
    """Yield the events. Raise HTTPStatusError for an error sent as an event, or instead of events."""
    content_type = response.headers.get("content-type", "").lower()
    if "json" in content_type or "html" in content_type:
        read_json(await response.aread(), response)
        raise ValueError("a whole answer instead of a stream")
    # EventSource insists on this content type and UTF-8, but servers send others.
    response.headers["content-type"] = "text/event-stream"
    response.encoding = "utf-8-sig"
    async for event in httpx2.EventSource(response, max_event_size=None):  # the HTTP client limits the whole answer
        if event.data:
            yield event.data if event.data == DONE else read_json(event.data, response)


def read_json(data: str | bytes, response: httpx2.Response) -> Any:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:  # orjson refuses lone surrogates, which a text cut at any place may contain
        event = json.loads(data)
    if isinstance(event, dict) and event.get("error"):
        content = data.encode(errors="replace") if isinstance(data, str) else data
        answer = httpx2.Response(response.status_code, content=content, request=response.request)
        raise httpx2.HTTPStatusError("an error with status 200", request=response.request, response=answer)
    return event


async def read_to_the_end(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    with suppress(TimeoutError, httpx2.RequestError):
        async with asyncio.timeout(END_SECONDS):
            async for _ in response.stream:
                pass


class StreamedAnswer:
    """The state of a streamed answer."""

    def __init__(self) -> None:
        self.begun = False
        self.closed = False  # its last event has arrived
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.half = ""  # a lone high surrogate at the end of the last piece

    def add(self, piece: str) -> str:
        """Return the text to pass on: whole characters, without whitespace at the beginning of the answer."""
        text = self.half + piece
        if not self.begun:
            text = text.lstrip()
        self.half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = storable(with_pairs_joined(text.removesuffix(self.half)))
        self.begun = self.begun or bool(text)
        return text

    def last_chunk(self, provider: Provider) -> CompletionChunk:
        """Return the final chunk. Raise ApiError if the stream ended early or without text."""
        if not self.closed and self.finish_reason is None:
            raise broken_off(provider)
        finish_reason = self.finish_reason or "stop"
        if not self.begun:
            raise without_text(provider, finish_reason, self.usage)
        return CompletionChunk(finish_reason=finish_reason, usage=self.usage)


def with_pairs_joined(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
