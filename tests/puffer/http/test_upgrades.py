"""What reaches the application of a request, byte for byte."""

import asyncio
import json
from typing import Any

import pytest
import uvicorn
from asgiref.sync import async_to_sync
from uvicorn.server import ServerState

from puffer.http.connections import HttpProtocol


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    said = json.dumps({"path": scope["path"], "body": body.decode(), "headers": headers}).encode() + b"\n"
    length = (b"content-length", str(len(said)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": said})


@async_to_sync
async def answer_to(*parts: bytes) -> bytes:
    """Return all that the server sends for a connection on which it is sent these parts, one by one."""
    config = uvicorn.Config(echo, http=HttpProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: HttpProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()


def requests_in(answer: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines() if line.startswith(b"{")]


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
SIZED = b"POST /sized HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /chunked HTTP/1.1\r\nHost: x\r\n"
    + OFFER
    + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
)
SOCKET = b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize(("raw", "body"), [(SIZED, "hello"), (CHUNKED, "hello"), (SOCKET, "")])
@pytest.mark.parametrize("size", [1, 40, 1000])
def test_a_request_that_offers_an_upgrade_keeps_its_body(raw, body, size):
    first, last = requests_in(answer_to(*(raw[at : at + size] for at in range(0, len(raw), size))))
    assert (first["body"], last["path"]) == (body, "/last")
    assert first["headers"].keys() & {"upgrade", "http2-settings"} == set()
    assert first["headers"].get("connection") in (None, "keep-alive")


def test_many_offers_on_one_connection_are_all_answered():
    found = requests_in(answer_to(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n" + SIZED * 20 + CHUNKED))
    assert [request["path"] for request in found] == ["/plain", *20 * ["/sized"], "/chunked", "/last"]


@pytest.mark.parametrize(
    "raw",
    [b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n"],
)
def test_what_is_no_request_is_refused(raw):
    answer = answer_to(raw)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert requests_in(answer) == []
