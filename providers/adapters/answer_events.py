"""Read a provider's answer to a completion call, whole or as a stream: bytes -> JSON events.

The first bytes decide the form, because servers mislabel both, and send one where the other was requested. httpx2
parses streams; each adapter interprets the events.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, NoReturn, TypeVar

import httpx2
import orjson

from providers.error_messages import has_only_message, reports_failure
from providers.http_client import UnusableAnswer

T = TypeVar("T")
DONE = "[DONE]"  # the last event in OpenAI's protocol; also yielded after a body that is one JSON value
END_SECONDS = 0.1  # to wait for the end of a body after its last event
MAX_JSON_BYTES = 4 * 1024 * 1024  # of an answer that is not a stream; far more than any model writes
EVENTS_AT_ONCE = 50  # handled before other tasks may run
BLANKS = b" \t\r\n\xef\xbb\xbf"  # white space and the byte order mark

FIELDS = (b"data", b"event", b"id", b"retry", b":")  # beginnings of the lines of a stream


class Body(httpx2.AsyncByteStream):
    """A body whose first bytes, `start`, were read already. A blank line is added, to complete the last event."""

    def __init__(self, start: bytes, rest: AsyncIterator[bytes]) -> None:
        self.start, self.rest = start, rest
        self.has_ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.start
        async for chunk in self.rest:
            yield chunk
        self.has_ended = True
        yield b"\n\n"


@asynccontextmanager
async def events_of(response: httpx2.Response) -> AsyncIterator[AsyncGenerator[Any, None]]:
    """Yield the events as they arrive, and close the response afterwards.

    An exception in the block also closes the connection, which makes the provider stop. Otherwise the rest of the body
    is read, so that the connection can be reused.
    """
    async with aclosing(response), aclosing(read_events(response)) as events:
        yield events
        if not response.is_closed:
            await read_to_the_end(response)


async def read_events(response: httpx2.Response) -> AsyncGenerator[Any, None]:
    """Yield objects and DONE.

    Raise HTTPStatusError for a failure that is reported with status 200. An object that contains only a message is a
    failure if no answer follows it, and otherwise a heartbeat.
    """
    message_only: dict[str, Any] | None = None
    async with aclosing(read_values(response)) as values:
        async for value in values:
            if isinstance(value, dict):
                if reports_failure(value):
                    raise_failure(value, response)
                message_only = value if has_only_message(value) else None
            elif message_only is not None:
                break
            if message_only is None:
                yield value
    if message_only is not None:
        raise_failure(message_only, response)


def raise_failure(failure: Any, response: httpx2.Response) -> NoReturn:
    content = failure.encode(errors="replace") if isinstance(failure, str) else json.dumps(failure).encode()
    headers = {name: value for name, value in response.headers.items() if name.startswith("retry-after")}
    answer = httpx2.Response(response.status_code, content=content, headers=headers, request=response.request)
    raise httpx2.HTTPStatusError("an error with status 200", request=response.request, response=answer)


def object_in(response: httpx2.Response) -> dict[str, Any] | None:
    """Return the JSON object that is the whole body, if that has been read, or None.

    Raise HTTPStatusError if the object reports a failure.
    """
    if not response.is_closed:
        return None
    try:
        value = orjson.loads(response.content) if len(response.content) <= MAX_JSON_BYTES else None
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    if reports_failure(value) or has_only_message(value):
        raise_failure(value, response)
    return value


async def read_values(response: httpx2.Response) -> AsyncGenerator[Any, None]:
    async with aclosing(response.aiter_bytes()) as chunks:
        start = b""
        async for chunk in chunks:
            start += chunk
            if not any(field.startswith(start.lstrip(BLANKS)) for field in FIELDS):
                break
        begun = start.lstrip(BLANKS)
        first = begun[:1]
        if first == b"{" and "ndjson" in response.headers.get("content-type", "").lower():
            async for value in read_lines(start, chunks):
                yield value
            return
        if first in (b"{", b"["):
            values, rest = read_json(await read_rest(start, chunks))
            async for value in in_turns(values):
                yield value
            if not rest:
                return
            start = rest.encode(errors="replace")
        elif first == b"<":
            raise json.JSONDecodeError("a page instead of an answer", "", 0)
        elif not begun.startswith(FIELDS):
            content = await read_rest(start, chunks)
            if "json" in response.headers.get("content-type", "").lower():
                orjson.loads(content)
                raise ValueError("JSON without an answer")
            if first:
                raise_failure(content.decode(errors="replace"), response)
        async for value in read_stream(response, Body(start, chunks)):
            yield value


async def read_lines(start: bytes, chunks: AsyncIterator[bytes]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the JSON objects of a body with one object per line. An incomplete last line is ignored."""
    held = start
    while True:
        *lines, held = held.split(b"\n")
        async for line in in_turns(line for line in lines if line.strip()):
            if isinstance(value := orjson.loads(line), dict):
                yield value
        if len(held) > MAX_JSON_BYTES:
            raise UnusableAnswer(f"has a line of more than {MAX_JSON_BYTES} bytes")
        chunk = await anext(chunks, None)
        if chunk is None:
            break
        held += chunk
    with suppress(orjson.JSONDecodeError):
        if isinstance(value := orjson.loads(held), dict):
            yield value


async def read_rest(start: bytes, chunks: AsyncIterator[bytes]) -> bytes:
    content = bytearray(start)
    async for chunk in chunks:
        content += chunk
        if len(content) > MAX_JSON_BYTES:
            break
    if len(content) > MAX_JSON_BYTES:  # parsing it would hold up all other calls
        raise UnusableAnswer(f"is larger than {MAX_JSON_BYTES} bytes")
    return bytes(content)


async def in_turns(items: Iterable[T]) -> AsyncGenerator[T, None]:
    """Yield the items, and let other tasks run in between."""
    for number, item in enumerate(items, 1):
        yield item
        if number % EVENTS_AT_ONCE == 0:
            await asyncio.sleep(0)


def read_json(content: bytes) -> tuple[list[Any], str]:
    """Return the values at the beginning of a body, and the text after them, which is a stream of events.

    One value is a whole answer, also if it is a list of events (Gemini), so DONE is added. Several values are events,
    which must contain their own end.
    """
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    else:
        return [*(value if isinstance(value, list) else [value]), DONE], ""
    text = content.decode("utf-8-sig", errors="replace").strip()
    decoder = json.JSONDecoder(parse_constant=refuse_constant)
    values, at = [], 0
    while text[at : at + 1] in ("{", "["):
        value, at = decoder.raw_decode(text, at)
        values.append(value)
        while text[at : at + 1].isspace():
            at += 1
    if at == len(text) and len(values) == 1:
        values.append(DONE)
    return values, text[at:]


def refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


async def read_stream(response: httpx2.Response, body: Body) -> AsyncGenerator[Any, None]:
    # EventSource insists on this content type. The HTTP client limits the size of the whole answer.
    headers = {"content-type": "text/event-stream; charset=utf-8-sig"}
    stream = httpx2.Response(200, headers=headers, stream=body, request=response.request)
    number = 0
    async for event in httpx2.EventSource(stream, max_event_size=None):
        number += 1
        if number % EVENTS_AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            values = values_in(event.data)
        except (ValueError, RecursionError):
            if body.has_ended:  # cut off within its last event
                return
            raise
        if event.event == "error" and event.data:
            raise_failure(next(iter(values), event.data), response)
        for value in values:
            yield value


def values_in(data: str) -> list[Any]:
    """Return the JSON objects of an event, or DONE. A heartbeat ("", "ping", null, 0) has no objects."""
    data = data.strip()
    if data == DONE:
        return [DONE]
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        if "\n" in data and data[0] == "{":  # several events, if each line is one
            with suppress(ValueError):
                return [value for line in data.splitlines() for value in values_in(line)]
        if data[:1] not in ("{", "["):
            return []
        value = json.loads(data)  # orjson refuses lone surrogates, which a text cut at any place may contain
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


async def read_to_the_end(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    with suppress(TimeoutError, httpx2.RequestError):
        async with asyncio.timeout(END_SECONDS):
            async for _ in response.stream:
                pass
