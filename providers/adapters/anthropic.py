"""Anthropic's Messages API."""

from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import httpx2
import orjson

from providers.adapters.event_stream import StreamedAnswer, events_of
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
    Usage,
)
from providers.upstream_errors import upstream_errors, without_text

API_VERSION = "2023-06-01"  # newer versions refuse temperature, top_p and top_k
FINISH_REASONS = {"max_tokens": "length", "refusal": "content_filter"}  # any other: "stop"
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
            base_url=settings.base_url.rstrip("/").removesuffix("/v1"),
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
        with upstream_errors(self, Capability.COMPLETION):
            response = await self.client.post("/v1/messages", cast_to=httpx2.Response, body=completion_body(request))
            answer = orjson.loads(response.content)
            text = "".join(block["text"] for block in answer["content"] if block["type"] == "text").strip()
            finish_reason = FINISH_REASONS.get(answer.get("stop_reason"), "stop")
            usage = read_usage(answer)
        if not text:
            raise without_text(self, finish_reason, usage)
        return Completion(text, finish_reason, usage)

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[CompletionChunk, None]:
        """Stream a completion. Source: https://docs.anthropic.com/en/api/messages-streaming"""
        body = completion_body(request) | {"stream": True}
        answer = StreamedAnswer()
        counts: dict[str, Any] = {}  # the first event counts the prompt, the last one the answer
        with upstream_errors(self, Capability.COMPLETION):
            response = await self.client.post("/v1/messages", cast_to=httpx2.Response, body=body, stream=True)
            async with events_of(response) as events:
                async for event in events:
                    kind = event["type"]
                    if kind == "message_start":
                        counts |= non_null(event["message"].get("usage"))
                    elif kind == "content_block_delta" and event["delta"]["type"] == "text_delta":
                        if text := answer.add(event["delta"]["text"]):
                            yield CompletionChunk(text)
                    elif kind == "message_delta":
                        answer.finish_reason = FINISH_REASONS.get(event["delta"].get("stop_reason"), "stop")
                        counts |= non_null(event.get("usage"))
                        answer.usage = read_usage({"usage": counts})
                    elif kind == "message_stop":
                        answer.closed = True
                        break
        yield answer.last_chunk(self)

    async def list_models(self) -> list[str]:
        with upstream_errors(self, Capability.COMPLETION):
            response = await self.client.get("/v1/models", cast_to=httpx2.Response, options={"params": {"limit": 1000}})
            return sorted(str(model["id"]) for model in orjson.loads(response.content)["data"])


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


def non_null(usage: dict[str, Any] | None) -> dict[str, Any]:
    """Return the counts that are not null, so that a later event does not overwrite an earlier count with null."""
    return {name: count for name, count in (usage or {}).items() if count is not None}


def read_usage(answer: dict[str, Any]) -> Usage | None:
    usage = answer.get("usage")
    if not usage or not isinstance(usage, dict):
        return None
    return read_counts(usage.get("input_tokens"), usage.get("output_tokens"))
