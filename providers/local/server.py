"""The HTTP server of the bundled models: OpenAI's protocol, in a process of its own.

    request -> checks -> an engine -> JSON or server-sent events

The engines are in `providers.local.engines`; `providers.local.process` starts and stops the process.
"""

import argparse
import asyncio
import base64
import hmac
import json
import logging
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from pathlib import Path

from providers.local.engines import (
    COMPLETION_MODEL,
    DIMENSIONS,
    EMBEDDING_MODEL,
    MISSING,
    TOKEN_VARIABLE,
    MultilingualE5,
    Refused,
    SmolLM2,
    installed,
)

MAX_TOKENS = 1024  # where a request sets none: a model this small may repeat itself until its context is full
MIN_TOKEN = 20
MAX_BODY = 10 * 1024 * 1024
LOOPBACK = (b"127.0.0.1", b"localhost", b"[::1]")  # names in the Host header
MAX_INPUTS = 2048  # texts in one embeddings request: OpenAI's own limit

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
LENGTH_OPTIONS = ("max_tokens", "max_completion_tokens", "stop")
SAMPLING_OPTIONS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias")
OPTIONS = (*LENGTH_OPTIONS, *SAMPLING_OPTIONS, "response_format")

log = logging.getLogger(__name__)


class App:
    """The ASGI application. Every call must carry the token, because any local user can reach the port."""

    def __init__(self, token):
        self.authorization = f"Bearer {token}".encode()
        self.smollm2 = SmolLM2()
        self.e5 = MultilingualE5()
        self.views = {
            ("GET", "/health"): self.health,
            ("GET", "/v1/models"): self.list_models,
            ("POST", "/v1/chat/completions"): self.create_completion,
            ("POST", "/v1/embeddings"): self.create_embeddings,
        }

    async def __call__(self, scope, receive, send):
        try:
            self.check_access(dict(scope["headers"]))
            view = self.views.get((scope["method"], scope["path"]))
            if view is None:
                raise Refused(404, f"There is no endpoint {scope['method']} {scope['path']}.")
            body = await read_json(receive) if scope["method"] == "POST" else {}
            await unless_disconnected(receive, view(body, send))
        except Refused as refused:
            await send_json(send, refused.as_json(), refused.status)
        except Exception:
            log.exception("%s failed", scope["path"])
            await send_json(send, Refused(500, "The local model failed; see the server's log.").as_json(), 500)

    def check_access(self, headers):
        """Refuse callers without the token, and browsers: no web page has a reason to call."""
        if b"origin" in headers or headers.get(b"host", b"").rpartition(b":")[0] not in LOOPBACK:
            raise Refused(403, "The local model answers puffer only.", "forbidden")
        if not hmac.compare_digest(headers.get(b"authorization", b""), self.authorization):
            raise Refused(401, "The API key is missing or wrong.", "invalid_api_key")

    async def health(self, body, send):
        await send_json(send, {"status": "ok"})  # the port opens after the completion model is loaded

    async def list_models(self, body, send):
        owners = {COMPLETION_MODEL: "HuggingFaceTB", EMBEDDING_MODEL: "intfloat"}
        models = [{"id": id, "object": "model", "created": 0, "owned_by": owner} for id, owner in owners.items()]
        await send_json(send, {"object": "list", "data": models})

    async def create_completion(self, body, send):
        request = completion_request(body)
        async with aclosing(self.smollm2.chunks(request)) as chunks:
            if body.get("stream"):
                await send_events(send, chunks, with_usage=(body.get("stream_options") or {}).get("include_usage"))
            else:
                await send_json(send, await whole_completion(chunks))

    async def create_embeddings(self, body, send):
        texts = embeddings_input(body)
        as_base64 = body.get("encoding_format") == "base64"
        data, tokens = [], 0
        for index, text in enumerate(texts):
            vector, count = await self.e5.embed(text, is_query=body.get("task_type") == "RETRIEVAL_QUERY")
            embedding = base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist()
            data.append({"object": "embedding", "index": index, "embedding": embedding})
            tokens += count
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        await send_json(send, {"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage})


def completion_request(body: dict) -> dict:
    """Build the engine's request. Drop fields that the engine supports but OpenAI's protocol does not have."""
    check_model(body, COMPLETION_MODEL)
    if body.get("n") not in (None, 1):
        raise Refused(400, "n must be 1: this model makes one completion at a time.")
    if body.get("tools"):
        raise Refused(400, "This model cannot call tools.")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise Refused(400, "stream_options must be an object.")
    options = {name: body[name] for name in OPTIONS if body.get(name) is not None}
    messages = checked_messages(body.get("messages"))
    # Always stream: only a stream can be stopped when the client leaves.
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    return {"max_tokens": MAX_TOKENS, **options, "messages": messages, **streaming}


def checked_messages(messages) -> list[dict]:
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages must be a list of at least one message.")
    checked = []
    for message in messages:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or role not in ROLES:
            raise Refused(400, f"A message's role must be one of {', '.join(ROLES)}.")
        if isinstance(content, list):
            content = "".join(text_of(part) for part in content)
        if not isinstance(content, str):
            raise Refused(400, "A message's content must be a string or a list of text parts.")
        # The template ends a turn with <|im_end|>. Break the marker, so that no text can end its turn and speak as
        # the system.
        checked.append({"role": ROLES[role], "content": content.replace("<|", "< |")})
    return checked


def text_of(part) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise Refused(400, "This model reads text only: each part of a content must be of type text.")


def embeddings_input(body: dict) -> list[str]:
    """Return the texts to embed, in order."""
    check_model(body, EMBEDDING_MODEL)
    texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refused(400, "input must be a text or a list of texts, none of them empty.")
    if len(texts) > MAX_INPUTS:
        raise Refused(400, f"input has {len(texts)} texts; the limit is {MAX_INPUTS}.")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise Refused(400, "encoding_format must be float or base64.")
    if body.get("dimensions") not in (None, DIMENSIONS):
        raise Refused(400, f"dimensions must be {DIMENSIONS}: this model makes no other vectors.")
    return texts


def check_model(body: dict, served: str) -> None:
    if body.get("model") != served:
        message = f"The model {body.get('model')!r} does not exist; this endpoint has {served!r}."
        raise Refused(404, message, "model_not_found")


async def whole_completion(chunks: AsyncIterator[dict]) -> dict:
    text, finish_reason = "", None
    async for chunk in chunks:
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            finish_reason = choice["finish_reason"] or finish_reason
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return chunk | {"object": "chat.completion", "choices": choices}  # the last chunk has the ID and the usage


async def send_events(send, chunks: AsyncIterator[dict], *, with_usage) -> None:
    """Send one event per chunk. Raise an error that comes before the first chunk, so that it gets its own status."""

    async def send_event(data: str) -> None:
        await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})

    first = await anext(chunks)
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send_event(json.dumps(first))
    try:
        async for chunk in chunks:
            if chunk["choices"] or with_usage:
                await send_event(json.dumps(chunk))
        await send_event("[DONE]")
    except Refused as refused:
        await send_event(json.dumps(refused.as_json()))
    await send({"type": "http.response.body", "body": b""})


async def send_json(send, answer: dict, status: int = 200) -> None:
    body = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_json(receive) -> dict:
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
        if len(body) > MAX_BODY:
            raise Refused(413, f"The body is larger than {MAX_BODY} bytes.")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise Refused(400, "The body must be a JSON object.")
    return parsed


async def unless_disconnected(receive, work: Awaitable) -> None:
    """Await `work`, and cancel it when the client leaves."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(receive())  # after the body only http.disconnect can come
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        leaving.cancel()


def exit_with(parent: int) -> None:
    """Exit when the parent process has ended, because a parent that is killed cannot stop this process."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the bundled models in OpenAI's protocol.")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--fd", type=int, help="a listening socket to serve instead of the port")
    parser.add_argument("--parent", type=int, help="end when the process with this id is no longer the parent")
    arguments = parser.parse_args()
    token = os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < MIN_TOKEN:
        sys.exit(
            f"Set {TOKEN_VARIABLE} to a random text of at least {MIN_TOKEN} characters: callers send it as API key."
        )
    if not installed():
        sys.exit(MISSING)
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() == "x86_64" and cpuinfo.exists() and " avx2" not in cpuinfo.read_text():
        sys.exit("The bundled model needs a processor with AVX2, which this machine does not have.")
    if arguments.parent:
        threading.Thread(target=exit_with, args=[arguments.parent], daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the engines when they are imported; see SmolLM2

    import uvicorn

    config = uvicorn.Config(
        App(token),
        host="127.0.0.1",
        port=arguments.port,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    sockets = None if arguments.fd is None else [socket.socket(fileno=arguments.fd)]
    uvicorn.Server(config).run(sockets=sockets)


if __name__ == "__main__":
    main()
