"""Connections to an application of our own, which answers before or after it has read the body."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from asgiref.sync import async_to_sync
from uvicorn.server import ServerState

from puffer.http.connections import HttpProtocol, close_late_connections


async def answer(send: Any, text: bytes) -> None:
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def answer_at_once(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, b"early")


async def count_bytes(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await answer(send, str(size).encode())


@asynccontextmanager
async def connected(application: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a connection to the application, on a server that keeps idle ones for a second."""
    config = uvicorn.Config(
        application, http=HttpProtocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: HttpProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    closing = asyncio.create_task(close_late_connections(state.connections))
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            closing.cancel()


def test_a_connection_whose_body_came_after_the_answer_is_not_kept_for_ever():
    @async_to_sync
    async def received() -> tuple[bytes, bytes]:
        async with connected(answer_at_once) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
            first = await asyncio.wait_for(reader.readuntil(b"early"), 5)
            writer.write(b"world")
            return first, await asyncio.wait_for(reader.read(), 10)

    first, rest = received()
    assert (first[:12], rest) == (b"HTTP/1.1 200", b"")


def test_several_uploads_may_be_sent_at_once(settings):
    """As many bytes as a page of a signed-in user accepts, though far more than an API call may have."""
    settings.MAX_REQUEST_BYTES, settings.MAX_UPLOAD_BYTES = 1000, 100_000

    @async_to_sync
    async def sent() -> bytes:
        async with connected(count_bytes) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 500000\r\n\r\n")
            writer.write(b"x" * 500_000)
            return await asyncio.wait_for(reader.read(), 10)

    assert sent().endswith(b"500000")
