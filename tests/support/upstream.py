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

Behavior = Callable[["Connection"], None]


@dataclass(frozen=True)
class Sent:
    """A received request. `target` is raw: percent-encoded, with its query string."""

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
    """A client's connection, which may carry several requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Upstream"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.received = Sent(self.command, self.path, self.headers, body)
        if self.path.endswith("/api/version") and self.path not in self.server.pages:
            answering("This is not Ollama, although its provider is used.", 404)(self)  # and not recorded
            return
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
        """Reset the server: forget recorded requests and queued answers."""
        self.sent: list[Sent] = []
        self.connections = 0
        self.queue: deque[Behavior] = deque()
        self.pages: dict[str, Behavior] = {}
        self.client_hung_up.clear()

    def behaviour_for(self, path: str) -> Behavior:
        if path in self.pages:
            return self.pages[path]
        return self.queue.popleft() if self.queue else answering("No test has said what to answer here.", 599)

    # Each call of these methods queues the answer to one request.

    def will_answer(self, body: Any = b"", status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer with `body`, encoded as JSON unless it is bytes."""
        self.queue.append(answering(body, status, headers))

    def will_send(self, raw: bytes) -> None:
        """Send these bytes, whether or not they are HTTP, and close the connection."""
        self.queue.append(sending(raw))

    def will_hang_up(self) -> None:
        self.queue.append(sending(b""))

    def will_stall(self, after: bytes = b"") -> None:
        """Send the bytes of `after`, then nothing more until the client disconnects."""
        self.queue.append(stalling(after))

    def will_stream(self, pieces: Iterable[bytes], *, pause: float = 0, then: str = "end", **headers: str) -> None:
        """Stream the pieces, `pause` seconds apart, until the client disconnects.

        `then` is "end" for a complete response, "break off" to close without the final chunk, "silent" to stay open.
        """
        self.queue.append(streaming(pieces, pause, then, headers))

    def serves(self, path: str, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer every request for the path the same way."""
        self.pages[path] = answering(body, status, headers)


def answering(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Behavior:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"content-type": "application/json", "content-length": str(len(content))}
    lines |= {name.lower(): value for name, value in (headers or {}).items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    def behave(connection: Connection) -> None:
        connection.write(f"HTTP/1.1 {status} Said So\r\n{head}\r\n".encode() + content)

    return behave


def embedding(dimension: int = 64) -> Behavior:
    """Return a behavior like OpenAI's /embeddings: texts that share words get similar vectors."""

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
    """Answer like OpenAI's /embeddings, but fast: a vector depends only on the length of its text."""
    texts = orjson.loads(connection.received.body)["input"]
    data = [{"object": "embedding", "index": at, "embedding": VALUES[len(text) % 100]} for at, text in enumerate(texts)]
    body = {"object": "list", "data": data, "model": "emb-1", "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    answering(orjson.dumps(body))(connection)


def bag_of_words(text: str, dimension: int) -> list[float]:
    counts = [0.01] * dimension
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % dimension] += 1.0
    return counts


def sending(raw: bytes) -> Behavior:
    def behave(connection: Connection) -> None:
        connection.write(raw)
        connection.close_connection = True

    return behave


def stalling(after: bytes) -> Behavior:
    def behave(connection: Connection) -> None:
        connection.write(after)
        connection.request.recv(1)  # returns when the client disconnects
        connection.server.client_hung_up.set()
        connection.close_connection = True

    return behave


def streaming(pieces: Iterable[bytes], pause: float, then: str, headers: Mapping[str, str]) -> Behavior:
    lines = {"content_type": "text/event-stream", "transfer_encoding": "chunked"} | headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())

    def behave(connection: Connection) -> None:
        def disconnects_within(seconds: float | None) -> bool:
            # The client sends nothing more: the socket becomes readable only when it disconnects.
            return bool(select.select([connection.request], [], [], seconds)[0])

        connection.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        disconnected = False
        for piece in pieces:
            connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if disconnected := disconnects_within(pause):
                break
        if disconnected or (then == "silent" and disconnects_within(None)):
            connection.server.client_hung_up.set()
            connection.close_connection = True
        elif then == "break off":
            connection.close_connection = True
        else:
            connection.write(b"0\r\n\r\n")

    def behave_until_disconnect(connection: Connection) -> None:
        try:
            behave(connection)
        except ConnectionError:  # the client disconnected while we were writing
            connection.server.client_hung_up.set()
            connection.close_connection = True

    return behave_until_disconnect


@contextmanager
def running(upstream: Upstream | None = None) -> Iterator[Upstream]:
    with upstream or Upstream() as upstream:
        thread = threading.Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield upstream
        finally:  # otherwise a failed test would leave the thread running and the process alive
            upstream.shutdown()
            thread.join()


@contextmanager
def full_backlog() -> Iterator[str]:
    """Yield the URL of a port with a full backlog: on Linux, connection attempts hang instead of being refused."""
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
    """Yield the URL of a port that refuses connections."""
    with socket.socket() as bound:  # bound, so that no other process gets the port, but not listening
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
