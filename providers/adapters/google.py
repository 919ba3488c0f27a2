"""Gemini, through generateContent and batchEmbedContents."""

from __future__ import annotations

import asyncio
import base64
import math
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from providers.adapters.event_stream import StreamedAnswer, events_of
from providers.adapters.token_counts import read_counts
from providers.base import (
    Capability,
    Completion,
    CompletionChunk,
    CompletionRequest,
    EmbeddingRequest,
    Embeddings,
    GeneratedImage,
    ImageRequest,
    Images,
    Message,
    Provider,
    ProviderSettings,
    SdkErrors,
    Usage,
)
from providers.http_client import ssl_context
from providers.upstream_errors import empty_answer, upstream_errors, without_text
from puffer.api import ApiError

if TYPE_CHECKING:
    from google.genai import types

API_VERSION = "v1beta"
MODEL_ID = re.compile(r"(tunedModels/)?(?!\.+$)[\w.-]+\Z", re.ASCII)  # it becomes part of the URL's path
ROLES = {"assistant": "model"}  # any other: "user"
WITHHELD = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}
MAX_IMAGES = 4  # AI Puffer's limit; each image is a call of its own


class Google(Provider):
    """The adapter of the Gemini API. Source: https://ai.google.dev/api/generate-content, /api/embeddings (v1beta)"""

    slug = "google"
    label = "Google"
    capabilities = frozenset({Capability.COMPLETION, Capability.EMBEDDING, Capability.IMAGE})
    default_base_url = "https://generativelanguage.googleapis.com"
    default_models: ClassVar[dict[Capability, str]] = {
        Capability.COMPLETION: "gemini-3.7-flash",
        Capability.IMAGE: "gemini-3.1-flash-image",
        Capability.EMBEDDING: "gemini-embedding-2-preview",
    }

    def __init__(self, settings: ProviderSettings, http_client: httpx2.AsyncClient) -> None:
        from google import genai
        from google.genai import types

        super().__init__(settings, http_client)
        self.models = genai.Client(
            vertexai=False,
            api_key=settings.api_key,
            http_options=types.HttpOptions(
                base_url=base_url(settings),
                api_version=API_VERSION,
                httpx_async_client=http_client,
                async_client_args={
                    "verify": ssl_context(),
                    "ssl": ssl_context(),
                },  # otherwise the SDK creates two contexts
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        ).aio.models

    def sdk_errors(self) -> SdkErrors:
        from google.genai import errors

        return SdkErrors(errors.APIError, httpx2.RequestError, errors.UnknownApiResponseError)

    async def complete(self, request: CompletionRequest) -> Completion:
        if not request.messages:
            raise no_message()
        with upstream_errors(self, Capability.COMPLETION):
            answer = await self.models.generate_content(
                model=model_id(request.model),
                contents=turns(request.messages),
                config=completion_config(request),
            )
            text = "".join(part.text or "" for part in answer_parts(answer) if not part.thought).strip()
            finish_reason = read_finish_reason(answer)
            usage = read_usage(answer.usage_metadata)
        if not text:
            raise without_text(self, finish_reason, usage)
        return Completion(text, finish_reason, usage)

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[CompletionChunk, None]:
        """Stream a completion without the SDK, whose streams cannot be closed early and are retried by default.

        Source: https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent
        """
        if not request.messages:
            raise no_message()
        answer = StreamedAnswer()
        with upstream_errors(self, Capability.COMPLETION):
            async with events_of(await self.open_stream(request)) as events:
                async for event in events:
                    candidate = (event.get("candidates") or [{}])[0]
                    if text := answer.add(candidate_text(candidate)):
                        yield CompletionChunk(text)
                    if reason := candidate.get("finishReason"):
                        answer.finish_reason = finish_reason_named(reason)
                    if (event.get("promptFeedback") or {}).get("blockReason"):
                        answer.finish_reason = "content_filter"
                    answer.usage = read_raw_usage(event.get("usageMetadata")) or answer.usage
        yield answer.last_chunk(self)

    async def open_stream(self, request: CompletionRequest) -> httpx2.Response:
        from google.genai import errors

        model = model_id(request.model)
        name = model if "/" in model else f"models/{model}"
        call = self.http_client.build_request(
            "POST",
            f"{base_url(self.settings)}/{API_VERSION}/{name}:streamGenerateContent",
            params={"alt": "sse"},
            headers={"x-goog-api-key": self.settings.api_key},
            json=stream_body(request),
        )
        response = await self.http_client.send(call, stream=True)
        if response.status_code != 200:
            async with aclosing(response):
                await errors.APIError.raise_for_async_response(response)
        return response

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        with upstream_errors(self, Capability.EMBEDDING):
            answer = await self.models.embed_content(
                model=model_id(request.model),
                contents=[{"parts": [{"text": text}]} for text in request.texts],
                config={"task_type": request.task_type, "output_dimensionality": request.output_dimensionality or None},
            )
            vectors = [embedding.values or [] for embedding in answer.embeddings or []]
        if len(vectors) != len(request.texts) or not all(
            vector and all(map(math.isfinite, vector)) for vector in vectors
        ):
            raise empty_answer(
                self,
                Capability.EMBEDDING,
                f"{self.label} sent {len(vectors)} embeddings for {len(request.texts)} texts, or invalid numbers.",
            )
        return Embeddings(vectors, None)  # the API reports no usage for embeddings

    async def generate_images(self, request: ImageRequest) -> Images:
        calls = [self.draw(request) for _ in range(min(request.n, MAX_IMAGES))]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        answers = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        images = [image for images, _ in answers for image in images]
        usage = total_usage([usage for _, usage in answers if usage])
        if not images:  # if some calls succeed, failures of the others are ignored: the images are paid for
            no_image = empty_answer(self, Capability.IMAGE, f"{self.label} sent an answer without an image.", usage)
            raise next(iter(failures), no_image)
        return Images(images, usage)

    async def draw(self, request: ImageRequest) -> tuple[list[GeneratedImage], Usage | None]:
        ratio = None if request.aspect_ratio == "auto" else request.aspect_ratio
        shape: types.ImageConfigDict = {"aspect_ratio": ratio, "image_size": request.resolution}
        with upstream_errors(self, Capability.IMAGE):
            answer = await self.models.generate_content(
                model=model_id(request.model),
                contents=request.prompt,
                config={
                    "response_modalities": ["IMAGE"],
                    "image_config": shape if ratio or request.resolution else None,
                    "seed": request.seed,
                },
            )
            images = [
                GeneratedImage(
                    base64=base64.b64encode(part.inline_data.data).decode(), mime_type=part.inline_data.mime_type
                )
                for part in answer_parts(answer)
                if part.inline_data and part.inline_data.data
            ]
            return images, read_usage(answer.usage_metadata)

    async def list_models(self) -> list[str]:
        with upstream_errors(self, Capability.COMPLETION):
            pager = await self.models.list(config={"page_size": 1000})
            return sorted([(model.name or "").removeprefix("models/") async for model in pager])


def base_url(settings: ProviderSettings) -> str:
    return settings.base_url.rstrip("/").removesuffix(f"/{API_VERSION}")


def no_message() -> ApiError:
    return ApiError(
        "Google needs at least one message with the role user or assistant.",
        status=400,
        code="rest_aipkit_invalid_param",
    )


def model_id(model: str) -> str:
    model = model.removeprefix("models/")
    if not MODEL_ID.match(model) or ".." in model:
        raise ApiError("This is not a valid Google model id.", status=400, code="rest_aipkit_invalid_param")
    return model


def turns(messages: Sequence[Message]) -> list[types.ContentUnionDict]:
    """Return the messages with Gemini's roles. Roles must alternate, so consecutive messages are merged."""
    merged: list[Any] = []
    for message in messages:
        role, part = ROLES.get(message.role, "user"), {"text": message.content}
        if merged and merged[-1]["role"] == role:
            merged[-1]["parts"].append(part)
        else:
            merged.append({"role": role, "parts": [part]})
    return merged


def completion_config(request: CompletionRequest) -> types.GenerateContentConfigDict:
    sampling = request.sampling
    return {
        "system_instruction": request.instructions or None,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_output_tokens": sampling.max_tokens,
        "stop_sequences": list(sampling.stop) or None,
    }


def stream_body(request: CompletionRequest) -> dict[str, Any]:
    """Return the body that the SDK would send."""
    names = {
        "temperature": "temperature",
        "top_p": "topP",
        "top_k": "topK",
        "max_output_tokens": "maxOutputTokens",
        "stop_sequences": "stopSequences",
    }
    config: dict[str, Any] = {**completion_config(request)}
    body = {
        "contents": turns(request.messages),
        "generationConfig": {names[name]: config[name] for name in names if config[name] is not None},
    }
    if request.instructions:
        body["systemInstruction"] = {"role": "user", "parts": [{"text": request.instructions}]}
    return body


def candidate_text(candidate: dict[str, Any]) -> str:
    parts = (candidate.get("content") or {}).get("parts") or []
    return "".join(part.get("text") or "" for part in parts if not part.get("thought"))


def answer_parts(answer: types.GenerateContentResponse) -> list[types.Part]:
    if not answer.candidates or not answer.candidates[0].content:
        return []
    return answer.candidates[0].content.parts or []


def read_finish_reason(answer: types.GenerateContentResponse) -> str:
    if answer.prompt_feedback and answer.prompt_feedback.block_reason:
        return "content_filter"
    reason: Any = answer.candidates[0].finish_reason if answer.candidates else None
    return "stop" if reason is None else finish_reason_named(reason.value)


def finish_reason_named(name: str) -> str:
    if name == "MAX_TOKENS":
        return "length"
    return "content_filter" if name in WITHHELD else "stop"


def read_usage(usage: types.GenerateContentResponseUsageMetadata | None) -> Usage | None:
    if usage is None:
        return None
    return read_counts(
        usage.prompt_token_count,
        usage.candidates_token_count,
        usage.total_token_count,
        cached_tokens=usage.cached_content_token_count,
        thought_tokens=usage.thoughts_token_count,
        tool_use_tokens=usage.tool_use_prompt_token_count,
    )


def read_raw_usage(usage: dict[str, Any] | None) -> Usage | None:
    """Read the usage of a stream event, which counts everything so far."""
    if not usage:
        return None
    return read_counts(
        usage.get("promptTokenCount"),
        usage.get("candidatesTokenCount"),
        usage.get("totalTokenCount"),
        cached_tokens=usage.get("cachedContentTokenCount"),
        thought_tokens=usage.get("thoughtsTokenCount"),
        tool_use_tokens=usage.get("toolUsePromptTokenCount"),
    )


def total_usage(usages: Sequence[Usage]) -> Usage | None:
    if not usages:
        return None
    return read_counts(
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.total_tokens for usage in usages),
        **{name: sum(usage.extra[name] for usage in usages) for name in usages[0].extra},
    )
