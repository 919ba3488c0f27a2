"""Bodies of requests, read only when and as far as they are needed."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

SMALL_BODY = 64 * 1024  # bytes, the limit for clients that are not signed in
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class BodyTooLarge(Exception):
    """A body of more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"The request body is larger than {limit} bytes.")


class ClientLeft(Exception):
    """The client closed the connection before it had sent its request."""


class Body:
    """The body of a request. It stays in the socket until it is read."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        self.declared = int(length) if length.isdigit() else 0
        self.is_chunked = b"transfer-encoding" in headers
        self.closes = headers.get(b"connection", b"").lower() == b"close" or scope.get("http_version") == "1.0"
        self.receive = receive
        self.content: bytes | None = None  # once it is complete
        self.is_complete = False  # whether the client has sent all of it

    async def read(self, limit: int) -> bytes:
        """Return the body. Raise BodyTooLarge, as early as possible, or ClientLeft."""
        if self.content is None:
            if self.declared > limit:
                raise BodyTooLarge(limit)
            chunks: list[bytes] = []
            size = 0
            while not self.is_complete:
                chunks.append(chunk := await self.next_chunk())
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(limit)
            self.content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(self.content) > limit:
            raise BodyTooLarge(limit)
        return self.content

    async def next_chunk(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        self.is_complete = not message.get("more_body")
        chunk: bytes = message.get("body", b"")
        return chunk

    async def discard_before_close(self) -> None:
        """Read the rest of the body, if the connection is closed after the answer.

        A client that is still sending would get a reset instead of the answer. Where the connection stays open, the
        server discards the rest by itself.
        """
        while self.closes and not self.is_complete:
            await self.next_chunk()

    def limited(self, limit: int) -> Receive:
        """Return a `receive` that raises BodyTooLarge as soon as the body exceeds the limit, or at once if it will."""
        if self.declared > limit:
            raise BodyTooLarge(limit)
        received = 0

        async def receive() -> Mapping[str, Any]:
            nonlocal received
            message = await self.receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLarge(limit)
            return message

        return receive
