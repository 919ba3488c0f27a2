"""A real HTTP server on loopback that plays an outside service: it records requests and sends what a test sets.

upstream.will_answer({"choices": [...]})
...
assert upstream.sent[0].json["model"] == "gpt-4o-mini"
"""

import json
import random
import re
import select
import socket
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

Behaviour = Callable[["Connection"], None]


@dataclass(frozen=True)
class Sent:
    """One request as it came in. `target` is as raw as on the wire: percent-encoded, with its query."""

    method: str
    target: str
    headers: HTTPMessage
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection(BaseHTTPRequestHandler):
    """One connection with a client: its requests, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Upstream"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.received = Sent(self.command, self.path, self.headers, body)
        self.server.sent.append(self.received)
        self.server.behaviour_for(self.path)(self)

    do_GET = do_PUT = do_DELETE = do_POST

    def write(self, data: bytes) -> None:
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class Upstream(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.client_hung_up = threading.Event()
        self.forget()

    def forget(self) -> None:
        """Reset to a new server: nothing was sent, nothing is queued."""
        self.sent: list[Sent] = []
        self.connections = 0
        self.queue: deque[Behaviour] = deque()
        self.pages: dict[str, Behaviour] = {}
        self.client_hung_up.clear()

    def behaviour_for(self, path: str) -> Behaviour:
        if path in self.pages:
            return self.pages[path]
        return self.queue.popleft() if self.queue else answering("No test has said what to answer here.", 599)

    # What the next request gets; one call for each request, in order.

    def will_answer(self, body: Any = b"", status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """`body`: bytes are sent as they are, anything else as JSON."""
        self.queue.append(answering(body, status, headers))

    def will_send(self, raw: bytes) -> None:
        """Send these bytes, be they HTTP or not, and close the connection."""
        self.queue.append(sending(raw))

    def will_hang_up(self) -> None:
        self.queue.append(sending(b""))

    def will_stall(self, after: bytes = b"") -> None:
        """Send the bytes of `after`, then nothing more until the client gives up."""
        self.queue.append(stalling(after))

    def will_stream(self, pieces: Iterable[bytes], *, pause: float = 0, then: str = "end", **headers: str) -> None:
        """Send the pieces as they come, `pause` seconds apart, until the client leaves.

        Then "end" as one should, "break off" without the end that the protocol asks for, or be "silent".
        """
        self.queue.append(streaming(pieces, pause, then, headers))

    def serves(self, path: str, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer every request for a path in one way."""
        self.pages[path] = answering(body, status, headers)


def answering(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"content-type": "application/json", "content-length": str(len(content))}
    lines |= {name.lower(): value for name, value in (headers or {}).items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    def behave(connection: Connection) -> None:
        connection.write(f"HTTP/1.1 {status} Said So\r\n{head}\r\n".encode() + content)

    return behave


def embedding(dimension: int = 64) -> Behaviour:
    """Answers as OpenAI's /embeddings: texts that share words get vectors near each other."""

    def behave(connection: Connection) -> None:
        texts = connection.received.json["input"]
        data = [
            {"object": "embedding", "index": index, "embedding": bag_of_words(text, dimension)}
            for index, text in enumerate([texts] if isinstance(texts, str) else texts)
        ]
        answering({"object": "list", "data": data, "model": "some-model", "usage": {"prompt_tokens": 7}})(connection)

    return behave


VALUES = [[round(random.Random(at).uniform(-1, 1), 3) for _ in range(8)] for at in range(100)]


def fast_embedding(connection: Connection) -> None:
    """Answer at once, with vectors of which only the length of the text decides."""
    texts = orjson.loads(connection.received.body)["input"]
    data = [{"object": "embedding", "index": at, "embedding": VALUES[len(text) % 100]} for at, text in enumerate(texts)]
    body = {"object": "list", "data": data, "model": "emb-1", "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    answering(orjson.dumps(body))(connection)


def bag_of_words(text: str, dimension: int) -> list[float]:
    counts = [0.01] * dimension
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % dimension] += 1.0
    return counts


def sending(raw: bytes) -> Behaviour:
    def behave(connection: Connection) -> None:
        connection.write(raw)
        connection.close_connection = True

    return behave


def stalling(after: bytes) -> Behaviour:
    def behave(connection: Connection) -> None:
        connection.write(after)
        connection.request.recv(1)  # nothing comes but the end
        connection.server.client_hung_up.set()
        connection.close_connection = True

    return behave


def streaming(pieces: Iterable[bytes], pause: float, then: str, headers: Mapping[str, str]) -> Behaviour:
    lines = {"content_type": "text/event-stream", "transfer_encoding": "chunked"} | headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())

    def behave(connection: Connection) -> None:
        def left_within(seconds: float | None) -> bool:
            return bool(select.select([connection.request], [], [], seconds)[0])  # nothing comes but the end

        connection.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        left = False
        for piece in pieces:
            connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if left := left_within(pause):
                break
        if left or (then == "silent" and left_within(None)):
            connection.server.client_hung_up.set()
            connection.close_connection = True
        elif then == "break off":
            connection.close_connection = True
        else:
            connection.write(b"0\r\n\r\n")

    def unless_gone(connection: Connection) -> None:
        try:
            behave(connection)
        except ConnectionError:  # it left while we were writing
            connection.server.client_hung_up.set()
            connection.close_connection = True

    return unless_gone


@contextmanager
def running(upstream: Upstream | None = None) -> Iterator[Upstream]:
    with upstream or Upstream() as upstream:
        thread = threading.Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield upstream
        finally:  # else a failure would leave the thread, and with it the process, for ever
            upstream.shutdown()
            thread.join()


@contextmanager
def full_backlog() -> Iterator[str]:
    """The URL of a port that takes no further connection, nor refuses it: on Linux, connecting to it never ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        try:
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(address)
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            for client in waiting:
                client.close()


@contextmanager
def closed_port() -> Iterator[str]:
    """The URL of a port that refuses connections."""
    with socket.socket() as bound:  # bound, so that nobody else gets it, but not listening
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
