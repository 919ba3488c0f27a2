"""Gemini, through generateContent and batchEmbedContents; images and embeddings with the SDK."""

from __future__ import annotations

import asyncio
import base64
import math
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from providers.adapters.answer_state import AnswerState, read_chunks, whole_completion
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
from providers.upstream_errors import empty_answer, upstream_errors
from puffer.api import ApiError

if TYPE_CHECKING:
    from google.genai import types

API_VERSION = "v1beta"
MODEL_ID = re.compile(r"(tunedModels/)?(?!\.+$)[\w.-]+\Z", re.ASCII)  # it becomes part of the URL's path
ROLES = {"assistant": "model"}  # any other: "user"
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
                base_url=settings.base_url,
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
        return await whole_completion(ContentState(self), partial(self.send, request, "generateContent"))

    def stream(self, request: CompletionRequest) -> AsyncGenerator[CompletionChunk, None]:
        return read_chunks(ContentState(self), partial(self.send, request, "streamGenerateContent", alt="sse"))

    async def send(self, request: CompletionRequest, method: str, **query: str) -> httpx2.Response:
        """Send a call for generated content; the caller must read and close the response.

        Source: https://ai.google.dev/api/generate-content, also for streamGenerateContent
        """
        if not request.messages:
            raise no_message()
        model = model_id(request.model)
        name = model if "/" in model else f"models/{model}"
        call = self.http_client.build_request(
            "POST",
            f"{self.settings.base_url}/{API_VERSION}/{name}:{method}",
            params=query,
            headers={"x-goog-api-key": self.settings.api_key},
            json=completion_body(request),
        )
        response = await self.http_client.send(call, stream=True)
        if response.status_code != 200:
            async with aclosing(response):
                await response.aread()
            raise httpx2.HTTPStatusError("an error status", request=call, response=response)
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


def turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages with Gemini's roles. Roles must alternate, so consecutive messages are merged."""
    merged: list[Any] = []
    for message in messages:
        role, part = ROLES.get(message.role, "user"), {"text": message.content}
        if merged and merged[-1]["role"] == role:
            merged[-1]["parts"].append(part)
        else:
            merged.append({"role": role, "parts": [part]})
    return merged


def completion_body(request: CompletionRequest) -> dict[str, Any]:
    sampling = request.sampling
    config = {
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "maxOutputTokens": sampling.max_tokens,
        "stopSequences": list(sampling.stop) or None,
    }
    body = {
        "contents": turns(request.messages),
        "generationConfig": {name: value for name, value in config.items() if value is not None},
    }
    if request.instructions:
        body["systemInstruction"] = {"role": "user", "parts": [{"text": request.instructions}]}
    return body


class ContentState(AnswerState):
    """Generated content, whole or in events, each of which counts all tokens so far."""

    def read(self, event: dict[str, Any]) -> str | None:
        self.usage = read_raw_usage(event.get("usageMetadata")) or self.usage
        candidates = event.get("candidates")
        if candidates:
            self.finish(candidates[0].get("finishReason"))
        if (event.get("promptFeedback") or {}).get("blockReason"):
            self.finish_reason = "content_filter"
        if not candidates:
            return None
        parts = (candidates[0].get("content") or {}).get("parts") or []
        return "".join(part.get("text") or "" for part in parts if not part.get("thought"))


def answer_parts(answer: types.GenerateContentResponse) -> list[types.Part]:
    if not answer.candidates or not answer.candidates[0].content:
        return []
    return answer.candidates[0].content.parts or []


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
