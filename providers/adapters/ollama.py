"""Ollama: its own protocol for completions, in which a call says how many tokens the model reads.

Its endpoint for OpenAI's protocol ignores that number, and cuts a longer prompt at its start, where the instructions
are. Other servers at the same address (LM Studio, llama.cpp, vLLM) have only OpenAI's protocol.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any, cast

import httpx2
import orjson

from providers.adapters.answer_state import AnswerState, read_chunks, whole_completion
from providers.adapters.base_urls import with_version
from providers.adapters.openai_compatible import OwnServer
from providers.adapters.token_counts import read_counts
from providers.base import Completion, CompletionChunk, CompletionRequest, ProviderSettings

VERSION_SECONDS = 2.0  # to wait for the server's version
VERSION_PATH = re.compile(r"/v\d[^/]*/?$")


class Ollama(OwnServer):
    """The adapter of Ollama. Source: https://docs.ollama.com/api/chat"""

    slug = "ollama"
    label = "Ollama"
    default_base_url = "http://127.0.0.1:11434"

    def __init__(self, settings: ProviderSettings, http_client: httpx2.AsyncClient) -> None:
        super().__init__(settings, http_client)
        self.api = VERSION_PATH.sub("", with_version(settings.base_url)) + "/api"
        self.has_own_protocol: bool | None = None  # None: not asked yet, or without an answer

    async def complete(self, request: CompletionRequest) -> Completion:
        if not await self.speaks_own_protocol():
            return await super().complete(request)
        body = self.chat_body(request) | {"stream": False}
        return await whole_completion(OllamaState(self), partial(self.send, f"{self.api}/chat", body))

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[CompletionChunk, None]:
        if await self.speaks_own_protocol():
            body = self.chat_body(request) | {"stream": True}
            chunks = read_chunks(OllamaState(self), partial(self.send, f"{self.api}/chat", body, stream=True))
        else:
            chunks = super().stream(request)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def speaks_own_protocol(self) -> bool:
        """Return whether the server tells a version as Ollama does. If it cannot be reached, the call itself fails."""
        import openai

        if self.has_own_protocol is None:
            options = cast(Any, {"timeout": VERSION_SECONDS})
            try:
                response = await self.client.get(f"{self.api}/version", cast_to=httpx2.Response, options=options)
            except openai.APIConnectionError:
                return False
            except openai.APIStatusError:
                self.has_own_protocol = False
            else:
                self.has_own_protocol = tells_version(response.content)
        return self.has_own_protocol

    def chat_body(self, request: CompletionRequest) -> dict[str, Any]:
        body = self.completion_body(request)
        sampling = request.sampling
        options = self.sampling(request.model, sampling) | {
            self.max_tokens_name: None,
            "num_ctx": self.settings.context_length,
            "num_predict": sampling.max_tokens,
            "top_k": sampling.top_k,
        }
        chat = {
            "model": body["model"],
            "messages": body["messages"],
            "options": {name: value for name, value in options.items() if value is not None},
        }
        # A model that thinks does so unless it is told not to. Other levels are refused by models that cannot think.
        return chat | ({"think": False} if sampling.reasoning_effort == "none" else {})


class OllamaState(AnswerState):
    """A completion in Ollama's own protocol. Thinking has a field of its own."""

    def read(self, event: dict[str, Any]) -> str | None:
        message = event.get("message")
        is_last = bool(event.get("done"))
        if not (is_last or isinstance(message, dict)):
            return None
        if is_last:
            self.usage = read_counts(event.get("prompt_eval_count"), event.get("eval_count"))
            self.finish(event.get("done_reason") or "stop")
            self.is_closed = True
        return (message or {}).get("content") or ""


def tells_version(content: bytes) -> bool:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("version"), str)
