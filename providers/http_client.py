"""The HTTP client that all provider SDKs share: time limits, a size limit for answers, no redirects."""

import asyncio
import ssl
import weakref
import zlib
from collections.abc import AsyncIterator
from functools import cache

import httpx2
from django.conf import settings

# Ollama and the bundled model are never called through a proxy from the environment.
NEVER_BY_PROXY = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}

_clients: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient]" = weakref.WeakKeyDictionary()


class UnusableAnswer(httpx2.ReadError):
    """An answer that cannot be used. The message continues a sentence that starts with "The answer"."""


class CappedStream(httpx2.AsyncByteStream):
    """The decompressed body of an answer, which fails beyond `limit` bytes instead of filling the memory."""

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
                    raise UnusableAnswer("cannot be decompressed") from None
            left -= len(chunk)
            if left < 0:
                raise UnusableAnswer(f"is larger than {self.limit} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self.stream.aclose()


async def limit_time(request: httpx2.Request) -> None:
    """Replace the SDK's time limits with CONNECT_TIMEOUT; calls.py limits the whole call."""
    request.extensions["timeout"] = {"connect": settings.CONNECT_TIMEOUT, "read": None, "write": None, "pool": None}


async def cap_answer(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    encoding = response.headers.pop("content-encoding", "identity").lower()
    if encoding not in ("gzip", "identity"):
        raise UnusableAnswer("has an unknown content encoding")
    response.stream = CappedStream(response.stream, settings.MAX_ANSWER_BYTES, gzipped=encoding == "gzip")


@cache
def ssl_context() -> ssl.SSLContext:
    """Return the shared context: creating one blocks the event loop for 20 ms."""
    return httpx2.create_ssl_context()


def http_client() -> httpx2.AsyncClient:
    """Return the client of the running event loop, created at first use and closed by close()."""
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        from openai import DefaultAioHttpClient  # a late import, because most processes never call a provider

        client = _clients[loop] = DefaultAioHttpClient(
            verify=ssl_context(),
            follow_redirects=False,
            mounts=NEVER_BY_PROXY,
            # One connection per call. Idle ones are closed before servers close them (usually after 5 s).
            limits=httpx2.Limits(max_connections=0, keepalive_expiry=4),
            event_hooks={"request": [limit_time], "response": [cap_answer]},
            headers={"accept-encoding": "gzip"},
        )
    return client


async def close() -> None:
    """Close the client of the running event loop."""
    if client := _clients.pop(asyncio.get_running_loop(), None):
        await client.aclose()
