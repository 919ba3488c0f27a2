"""Anthropic's Messages API."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, ClassVar

import httpx2
import orjson

from providers.adapters.answer_state import AnswerState, read_chunks, whole_completion
from providers.adapters.token_counts import read_counts
from providers.base import (
    Capability,
    Completion,
    CompletionChunk,
    CompletionRequest,
    Provider,
    ProviderSettings,
    Sampling,
    SdkErrors,
)
from providers.upstream_errors import upstream_errors

API_VERSION = "2023-06-01"  # newer versions refuse temperature, top_p and top_k
DEFAULT_MAX_TOKENS = 4096  # the API requires max_tokens
MAX_TEMPERATURE = 1.0  # the API refuses higher values


class Anthropic(Provider):
    """The adapter of the Messages API. Source: https://docs.anthropic.com/en/api/messages (version 2023-06-01)"""

    slug = "claude"
    label = "Claude"
    capabilities = frozenset({Capability.COMPLETION})
    default_base_url = "https://api.anthropic.com"
    default_models: ClassVar[dict[Capability, str]] = {Capability.COMPLETION: "claude-sonnet-5"}

    def __init__(self, settings: ProviderSettings, http_client: httpx2.AsyncClient) -> None:
        import anthropic

        super().__init__(settings, http_client)
        self.client = anthropic.AsyncAnthropic(
            api_key=settings.api_key,
            base_url=settings.base_url,
            http_client=http_client,
            max_retries=0,
            default_headers={
                "anthropic-version": API_VERSION,
                # As in the API reference, which compatible servers follow; the SDK would send a bearer token.
                "x-api-key": settings.api_key,
                "Authorization": anthropic.Omit(),  # type: ignore[dict-item]
            },
        )

    def sdk_errors(self) -> SdkErrors:
        import anthropic

        return SdkErrors(anthropic.APIStatusError, anthropic.APIConnectionError, orjson.JSONDecodeError)

    async def complete(self, request: CompletionRequest) -> Completion:
        return await whole_completion(MessageState(self), partial(self.send, completion_body(request)))

    def stream(self, request: CompletionRequest) -> AsyncGenerator[CompletionChunk, None]:
        body = completion_body(request) | {"stream": True}
        return read_chunks(MessageState(self), partial(self.send, body, stream=True))

    async def send(self, body: dict[str, Any], *, stream: bool = False) -> httpx2.Response:
        return await self.client.post("/v1/messages", cast_to=httpx2.Response, body=body, stream=stream)

    async def list_models(self) -> list[str]:
        with upstream_errors(self, Capability.COMPLETION):
            response = await self.client.get("/v1/models", cast_to=httpx2.Response, options={"params": {"limit": 1000}})
            return sorted(str(model["id"]) for model in orjson.loads(response.content)["data"])


class MessageState(AnswerState):
    """A message, whole or in events. Source: https://docs.anthropic.com/en/api/messages-streaming"""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self.counts: dict[str, Any] = {}  # the first event counts the prompt, the last one the answer

    def read(self, event: dict[str, Any]) -> str | None:
        kind = event.get("type")
        if kind == "message_start":
            return self.read_message(event["message"])
        if kind == "content_block_start":  # some compatible servers put text into it
            return block_text(event["content_block"])
        if kind == "content_block_delta":
            return block_text(event["delta"])
        if kind == "message_delta":
            self.finish(event["delta"].get("stop_reason"))
            self.count(event)
            return ""
        if kind == "message_stop":
            self.is_closed = True
        elif "content" in event:
            return self.read_message(event)
        return None

    def read_message(self, message: dict[str, Any]) -> str:
        self.finish(message.get("stop_reason"))
        self.count(message)
        return "".join(block_text(block) for block in message.get("content") or [])

    def count(self, event: dict[str, Any]) -> None:
        """Add counts. A later event does not overwrite an earlier count with null."""
        usage = event.get("usage")
        if isinstance(usage, dict):
            self.counts |= {name: count for name, count in usage.items() if count is not None}
        if self.counts:
            self.usage = read_counts(self.counts.get("input_tokens"), self.counts.get("output_tokens"))


def block_text(block: dict[str, Any]) -> str:
    return block["text"] if block.get("type") in ("text", "text_delta") else ""


def completion_body(request: CompletionRequest) -> dict[str, Any]:
    sampling = request.sampling
    body = {
        "model": request.model,
        "max_tokens": sampling.max_tokens or DEFAULT_MAX_TOKENS,
        "system": request.instructions or None,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stop_sequences": list(sampling.stop) or None,
        "top_k": sampling.top_k,
        **temperature_or_top_p(sampling),
    }
    return {name: value for name, value in body.items() if value is not None}


def temperature_or_top_p(sampling: Sampling) -> dict[str, float]:
    """Return only one of the two, because the API refuses both together: top_p if it is set and temperature is not."""
    temperature, top_p = sampling.temperature, sampling.top_p
    if top_p is not None and top_p != 1.0 and temperature in (None, 1.0):
        return {"top_p": min(max(top_p, 0.0), 1.0)}
    if temperature is not None:
        return {"temperature": min(temperature, MAX_TEMPERATURE)}
    return {} if top_p is None else {"top_p": min(max(top_p, 0.0), 1.0)}
