"""Limits of HTTP connections: their number, the size and time of a request's head, and the time of its body.

uvicorn has none of these limits: a client that never finishes a header line could fill the memory.
"""

import asyncio
import resource
from contextlib import suppress
from enum import IntEnum
from http import HTTPStatus
from typing import Any, NoReturn

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from puffer.http.pages import largest_body
from puffer.http.upgrades import NoUpgradeProtocol

MAX_HEAD_BYTES = 32 * 1024  # of the request line and all headers, as in nginx
MAX_HEADERS = 100
MIN_BODY_RATE = 2048  # bytes per second, after the first CLIENT_TIMEOUT seconds
MAX_PIPELINED = 32  # requests that wait on one connection for the answer before theirs
OPEN_FILES = 65_536  # wanted for each process: a connection is one
OTHER_FILES = 200  # of the database, of providers, of vector stores


class Phase(IntEnum):
    """The phase of a connection: what it waits for. Connections in the first phases are closed first to make room."""

    NEXT_REQUEST = 0
    HEAD = 1
    BODY = 2
    ANSWER = 3


class Refused(Exception):
    """The request breaks a limit; the connection is closed after its answer."""


class HttpProtocol(NoUpgradeProtocol):
    """A connection that is closed when its client sends too much, too slowly or too many requests at once."""

    phase = Phase.HEAD
    deadline = 0.0  # of the phase, on the loop's clock
    since = 0.0  # the beginning of the phase
    head_bytes = 0
    body_bytes = 0
    unread_bytes = 0  # received since the parser has last passed something on
    refusal = HTTPStatus.BAD_REQUEST
    active: RequestResponseCycle | None = None  # the request that is being answered; `cycle` is the last one received

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.enter(Phase.HEAD)
        if len(self.connections) > max_connections():
            self.make_room()

    def make_room(self) -> None:
        """Close the connection that has waited longest without a complete request, or else refuse this one."""
        others = [other for other in self.connections if isinstance(other, HttpProtocol) and other is not self]
        longest = min(others, key=lambda other: (other.phase, other.since), default=self)
        if longest.phase is Phase.ANSWER:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self.connections.discard(longest)
            longest.mark_disconnected()
            longest.transport.abort()

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self.loop.time()
        is_idle = phase is Phase.NEXT_REQUEST
        self.deadline = self.since + (self.timeout_keep_alive if is_idle else settings.CLIENT_TIMEOUT)
        self.unread_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.NEXT_REQUEST:  # before on_message_begin, because empty lines may come first
            self.enter(Phase.HEAD)
        self.unread_bytes += len(data)
        super().data_received(data)
        if self.unread_bytes > MAX_HEAD_BYTES + len(data) and not self.transport.is_closing():
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    # Callbacks of the parser, which stops when one of them raises

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self.stop(HTTPStatus.TOO_MANY_REQUESTS)
        self.enter(Phase.HEAD)
        self.head_bytes = self.body_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self.stop(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.head_bytes > MAX_HEAD_BYTES:  # a long URL without headers
            self.stop(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_headers_complete()
        self.enter(Phase.BODY)

    def on_body(self, body: bytes) -> None:
        self.unread_bytes = 0
        self.body_bytes += len(body)
        # Time saved by fast sending does not add up: otherwise a client could stall for hours near the end.
        self.deadline = min(self.deadline + len(body) / MIN_BODY_RATE, self.loop.time() + settings.CLIENT_TIMEOUT)
        if self.body_bytes > largest_body():  # one that is refused is still read, so that the client sees why
            self.stop(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        is_answered = self.cycle is not None and self.cycle.response_complete and not self.pipeline
        self.enter(Phase.NEXT_REQUEST if is_answered else Phase.ANSWER)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.phase is Phase.ANSWER and (self.cycle is None or self.cycle.response_complete):
            self.enter(Phase.NEXT_REQUEST)

    def stop(self, status: HTTPStatus) -> NoReturn:
        self.refusal = status
        raise Refused

    # The answers to requests that break a limit

    def close_if_late(self, now: float) -> None:
        if self.phase is Phase.ANSWER or now < self.deadline or self.transport.is_closing():
            return
        if self.phase is Phase.NEXT_REQUEST:  # uvicorn's timer ends with the last bytes of a body that came late
            self.transport.close()
        elif self.phase is Phase.BODY and self.flow.read_paused:  # puffer itself has paused reading
            self.deadline = now + settings.CLIENT_TIMEOUT
        else:
            self.refuse(HTTPStatus.REQUEST_TIMEOUT)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that the parser, or one of the callbacks above, has refused."""
        self.refuse(self.refusal)

    def refuse(self, status: HTTPStatus) -> None:
        """Close the connection, with an answer unless one has begun.

        A proxy would take a second answer to a request for the answer to the next one.
        """
        has_begun = self.active is not None and self.active.response_started and not self.active.response_complete
        if self.phase is Phase.BODY and self.cycle is not None:
            has_begun |= self.cycle.response_started
        self.mark_disconnected()
        if not has_begun:
            body = f"{status.phrase}\n".encode()
            head = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.active = cycle
        super()._start_asgi_task(cycle, app)

    def mark_disconnected(self) -> None:
        """Mark the client as disconnected, so that the running view does not write to a closed connection."""
        if self.active is not None and not self.active.response_complete:
            self.active.disconnected = True
            self.active.message_event.set()


def max_connections() -> int:
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(settings.MAX_CONNECTIONS, open_files - OTHER_FILES), 1)


def allow_open_files() -> None:
    """Raise this process' limit of open files as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def close_late_connections(connections: set[Any]) -> None:
    """Close, each second, the connections whose clients take too long to send a request."""
    while True:
        await asyncio.sleep(1)
        now = asyncio.get_running_loop().time()
        for connection in list(connections):
            connection.close_if_late(now)
