"""Requests byte for byte on the ASGI application, with what they cost."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from puffer.asgi import application
from tests.support.processor import REFERENCE_MILLISECONDS, TRIES, reference_work, seconds_of

PIECE = 64 * 1024  # bytes that a server passes on at once


@dataclass(frozen=True)
class Raw:
    """A request as a server passes it on. A header of the same name takes the place of a default."""

    method: str
    path: str
    headers: tuple[tuple[str, str | bytes], ...] = ()
    body: bytes = b""
    query: bytes = b""

    def scope(self) -> dict[str, Any]:
        headers = {"host": b"localhost", "content-length": str(len(self.body)).encode()}
        headers |= {name: value.encode() if isinstance(value, str) else value for name, value in self.headers}
        return {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": self.method, "scheme": "http",
            "path": self.path, "raw_path": self.path.encode(), "query_string": self.query, "root_path": "",
            "headers": [(name.encode(), value) for name, value in headers.items()],
            "client": ("192.0.2.9", 1), "server": ("127.0.0.1", 8000),
        }  # fmt: skip

    async def send(self) -> int:
        """Return the status of the answer."""
        pieces = [self.body[start : start + PIECE] for start in range(0, len(self.body), PIECE)] or [b""]
        status = 0
        answered = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                answered.set()

        await application(self.scope(), receive, send)
        return status

    async def milliseconds(self, limit: float) -> tuple[int, float]:
        """Return the status, and the CPU milliseconds in this whole process: see cpu_milliseconds()."""
        costs, references = [], []
        for _ in range(TRIES):
            references.append(seconds_of(reference_work))
            started = time.process_time()
            status = await self.send()
            costs.append(time.process_time() - started)
            milliseconds = min(costs) / min(references) * REFERENCE_MILLISECONDS
            if milliseconds < limit:
                break
        return status, milliseconds
