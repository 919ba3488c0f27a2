"""A real HTTP server on loopback that plays every provider: it keeps what was sent and answers what it was told to.

upstream.will_answer({"choices": [...]})
...
assert upstream.sent[0].json["model"] == "gpt-4o-mini"
"""

import base64
import json
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
        """Make it as good as new: nothing was sent, nothing is to be answered."""
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


def environment(url: str) -> dict[str, dict[str, str]]:
    """settings.PROVIDER_ENVIRONMENT with every provider at `url`, written as each vendor's own SDK takes it."""
    return {
        "openai": {"api_key": "sk-openai-0123456789", "base_url": f"{url}/v1"},
        "azure": {"api_key": "azure0123456789abcdef", "base_url": url, "api_version": ""},
        "google": {"api_key": "AIzaSyGoogle0123456789abcdefghijk", "base_url": url},
        "openrouter": {"api_key": "sk-or-v1-0123456789", "base_url": f"{url}/api/v1"},
        "claude": {"api_key": "sk-ant-0123456789", "base_url": url},
        "deepseek": {"api_key": "sk-deepseek-0123456789", "base_url": f"{url}/v1"},
        "xai": {"api_key": "xai-0123456789", "base_url": f"{url}/v1"},
        "ollama": {"base_url": url},
        "local": {"base_url": url},
    }


# What each vendor's server says, one answer of each kind: Hi!, two vectors, a picture of a cat.

CHAT_COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-Cf0aQ",
    "object": "chat.completion",
    "created": 1795401833,
    "model": "some-model-2026-08-07",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi!", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "system_fingerprint": None,
}
GENERATED_CONTENT: dict[str, Any] = {
    "candidates": [
        {
            "content": {"parts": [{"text": "Hi!"}], "role": "model"},
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 11,
        "candidatesTokenCount": 5,
        "totalTokenCount": 16,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 11}],
    },
    "modelVersion": "some-model",
    "responseId": "kq0Kav7aN4",
}
ANTHROPIC_MESSAGE: dict[str, Any] = {
    "id": "msg_01Xa",
    "type": "message",
    "role": "assistant",
    "model": "some-model",
    "content": [{"type": "text", "text": "Hi!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 11,
        "output_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    },
}
COMPLETIONS: dict[str, dict[str, Any]] = {
    "openai": CHAT_COMPLETION | {"service_tier": "default"},
    "azure": CHAT_COMPLETION | {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]},
    "google": GENERATED_CONTENT,
    "openrouter": CHAT_COMPLETION | {"provider": "OpenAI"},
    "claude": ANTHROPIC_MESSAGE,
    "deepseek": CHAT_COMPLETION,
    "xai": CHAT_COMPLETION,
    "ollama": CHAT_COMPLETION | {"system_fingerprint": "fp_ollama"},
    "local": CHAT_COMPLETION,
}


def event(data: Any, name: str = "") -> bytes:
    """One server-sent event; `data` is JSON unless it is bytes."""
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + content + b"\n\n"


def chat_chunk(delta: Any = None, finish_reason: str | None = None, **more: Any) -> bytes:
    """One of Chat Completions; without a delta one without choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
    head = {"id": "chatcmpl-Cf0aQ", "object": "chat.completion.chunk", "created": 1795401833, "model": "some-model"}
    return event({**head, "choices": choices, "usage": None, **more})


def google_chunk(text: str, **candidate: Any) -> bytes:
    content = {"parts": [{"text": text}], "role": "model"}
    counts = {"promptTokenCount": 11, "candidatesTokenCount": 1, "totalTokenCount": 12}
    answer = {"candidates": [{"content": content, "index": 0, **candidate}], "usageMetadata": counts}
    if "finishReason" in candidate:
        answer["usageMetadata"] = GENERATED_CONTENT["usageMetadata"]
    return event(answer | {"modelVersion": "some-model", "responseId": "kq0Kav7aN4"}).replace(b"\n", b"\r\n")


CHAT_DONE = event(b"[DONE]")
CHAT_END = [chat_chunk({}, "stop"), chat_chunk(usage=CHAT_COMPLETION["usage"]), CHAT_DONE]
CHAT_STREAM = [
    chat_chunk({"role": "assistant", "content": "", "refusal": None}),
    chat_chunk({"content": "H"}),
    chat_chunk({"content": "i!"}),
    *CHAT_END,
]
ANTHROPIC_START = [
    event(
        {
            "type": "message_start",
            "message": ANTHROPIC_MESSAGE
            | {"content": [], "stop_reason": None, "usage": {"input_tokens": 11, "output_tokens": 1}},
        },
        "message_start",
    ),
    event(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        "content_block_start",
    ),
    event({"type": "ping"}, "ping"),
]


def anthropic_piece(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")


ANTHROPIC_END = [
    event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
    event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": None, "output_tokens": 5},
        },
        "message_delta",
    ),
    event({"type": "message_stop"}, "message_stop"),
]
STREAMS: dict[str, list[bytes]] = {
    "openai": CHAT_STREAM,
    "azure": [event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}), *CHAT_STREAM],
    "google": [google_chunk("H"), google_chunk("i!"), google_chunk("", finishReason="STOP")],
    "openrouter": [b": OPENROUTER PROCESSING\n\n", b": OPENROUTER PROCESSING\n\n", *CHAT_STREAM],
    "claude": [*ANTHROPIC_START, anthropic_piece("H"), anthropic_piece("i!"), *ANTHROPIC_END],
    "deepseek": [
        chat_chunk({"role": "assistant", "content": None, "reasoning_content": "Someone says hello. "}),
        chat_chunk({"content": None, "reasoning_content": "So do I."}),
        *CHAT_STREAM,
    ],
    "xai": [
        chat_chunk({"role": "assistant", "content": "H"}, usage={"prompt_tokens": 11, "completion_tokens": 1}),
        chat_chunk({"content": "i!"}, "stop"),
        chat_chunk(usage=CHAT_COMPLETION["usage"]),
        CHAT_DONE,
    ],
    "ollama": CHAT_STREAM,
    "local": CHAT_STREAM,
}

VECTORS = [[0.25, -0.5, 1.0], [0.75, 0.125, -1.0]]
EMBEDDING_LIST: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(VECTORS)],
    "model": "some-model",
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
EMBEDDINGS: dict[str, dict[str, Any]] = {
    "openai": EMBEDDING_LIST,
    "azure": EMBEDDING_LIST,
    "google": {"embeddings": [{"values": vector} for vector in VECTORS]},
    "openrouter": EMBEDDING_LIST | {"id": "gen-emb-1", "provider": "OpenAI"},
    "ollama": EMBEDDING_LIST,
    "local": EMBEDDING_LIST,
}

CAT = b"\x89PNG\r\n\x1a\n" + b"a picture of a cat"
CAT_BASE64 = base64.b64encode(CAT).decode()
GPT_IMAGE: dict[str, Any] = {
    "created": 1795401842,
    "data": [{"b64_json": CAT_BASE64}],
    "output_format": "png",
    "usage": {
        "input_tokens": 9,
        "output_tokens": 272,
        "total_tokens": 281,
        "input_tokens_details": {"text_tokens": 9, "image_tokens": 0},
    },
}
IMAGES: dict[str, dict[str, Any]] = {
    "openai": GPT_IMAGE,
    "azure": GPT_IMAGE,
    "google": {
        "candidates": [
            {
                "content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": CAT_BASE64}}], "role": "model"},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 272, "totalTokenCount": 281},
    },
    "openrouter": {
        "created": 1795401842,
        "data": [{"b64_json": CAT_BASE64, "media_type": "image/png"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 272, "total_tokens": 281},
    },
}
