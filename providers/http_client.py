"""The HTTP client that all provider SDKs share: time limits, a cap on answers, no redirects. Knows no vendor."""

import asyncio
import ssl
import weakref
import zlib
from collections.abc import AsyncIterator
from functools import cache

import httpx2
from django.conf import settings

# A proxy of the environment is for the way out, not for Ollama and the bundled model.
NEVER_BY_PROXY = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}

_clients: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient]" = weakref.WeakKeyDictionary()


class UnusableAnswer(httpx2.ReadError):
    """Its text goes on from "The answer"."""


class CappedStream(httpx2.AsyncByteStream):
    """An answer's body, unpacked here, which fails beyond `limit` bytes instead of filling the memory."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int, *, gzipped: bool) -> None:
        self.stream, self.limit = stream, limit
        self.gzip = zlib.decompressobj(wbits=31) if gzipped else None  # 31: a gzip header and 32 KB of window

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self.limit
        async for chunk in self.stream:
            if self.gzip:
                try:
                    chunk = self.gzip.decompress(chunk, left + 1)
                except zlib.error:
                    raise UnusableAnswer("cannot be unpacked") from None
            left -= len(chunk)
            if left < 0:
                raise UnusableAnswer(f"is larger than {self.limit} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self.stream.aclose()


async def limit_time(request: httpx2.Request) -> None:
    """Ours instead of each SDK's own idea: this one to connect, the one for the whole call in calls.py."""
    request.extensions["timeout"] = {"connect": settings.CONNECT_TIMEOUT, "read": None, "write": None, "pool": None}


async def cap_answer(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    packing = response.headers.pop("content-encoding", "identity").lower()
    if packing not in ("gzip", "identity"):
        raise UnusableAnswer("is packed in a way that was not asked for")
    response.stream = CappedStream(response.stream, settings.MAX_ANSWER_BYTES, gzipped=packing == "gzip")


@cache
def ssl_context() -> ssl.SSLContext:
    """One for all: making it takes 20 ms, in which the event loop does nothing else."""
    return httpx2.create_ssl_context()


def http_client() -> httpx2.AsyncClient:
    """The client of the running event loop, made at its first use and closed by close()."""
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        from openai import DefaultAioHttpClient  # here, for what imports this module may never call anybody

        client = _clients[loop] = DefaultAioHttpClient(
            verify=ssl_context(),
            follow_redirects=False,
            mounts=NEVER_BY_PROXY,
            # As many connections as calls. Idle ones are given up before the usual server does it (after 5 s).
            limits=httpx2.Limits(max_connections=0, keepalive_expiry=4),
            event_hooks={"request": [limit_time], "response": [cap_answer]},
            headers={"accept-encoding": "gzip"},
        )
    return client


async def close() -> None:
    """Close the client of the running event loop."""
    if client := _clients.pop(asyncio.get_running_loop(), None):
        await client.aclose()
