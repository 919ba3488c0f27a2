"""OpenAI's protocol: Chat Completions, embeddings, images and moderation.

Calls use the SDK's low-level `post`: it signs, sends and raises as the SDK does, but builds no typed objects of
requests and answers, which would cost more than the rest of the call.
"""

import base64
import math
import re
from array import array
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httpx2
import orjson

from providers.adapters.answer_events import in_turns, raise_failure
from providers.adapters.answer_state import read_chunks, whole_completion
from providers.adapters.base_urls import with_version
from providers.adapters.chat_completion import ChatState, read_usage
from providers.adapters.refused_parameters import RENAMED, refused_parameters, without_refused
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
    Provider,
    ProviderSettings,
    Sampling,
    SdkErrors,
)
from providers.error_messages import has_only_message, reports_failure
from providers.upstream_errors import empty_answer, upstream_errors

if TYPE_CHECKING:
    import openai

DEPLOYMENT = re.compile(r"(?!\.+$)[\w.-]+\Z", re.ASCII)  # of Azure: its name becomes part of the URL's path
# Reasoning models refuse sampling parameters, except the "-chat-" variants of the o series.
# Source: https://platform.openai.com/docs/guides/reasoning
REASONING_MODEL = re.compile(r"gpt-5|(?<![a-z0-9])o[134](?![a-z0-9])")
MAX_REMEMBERED = 1000  # models whose refused parameters are remembered
END_USER = "rest_api_user"  # the `user` of image calls, as AI Puffer sends it


class OpenAI(Provider):
    """The adapter of the OpenAI API. Source: https://platform.openai.com/docs/api-reference"""

    slug = "openai"
    label = "OpenAI"
    capabilities = frozenset({Capability.COMPLETION, Capability.EMBEDDING, Capability.IMAGE, Capability.MODERATION})
    default_base_url = "https://api.openai.com/v1"
    default_models: ClassVar[dict[Capability, str]] = {
        Capability.COMPLETION: "gpt-5.6-luna",
        Capability.IMAGE: "gpt-image-2",
        Capability.EMBEDDING: "text-embedding-3-small",
    }
    max_tokens_name = "max_completion_tokens"
    sends_encoding_format = True
    sends_user = True

    def __init__(self, settings: ProviderSettings, http_client: httpx2.AsyncClient) -> None:
        super().__init__(settings, http_client)
        self.client = self.make_client()
        self.refused: dict[str, frozenset[str]] = {}  # parameters by model
        if self.slug != "openai":
            # The SDK reads OPENAI_ORG_ID and OPENAI_PROJECT_ID, which must not reach other vendors.
            self.client.organization = self.client.project = None

    def make_client(self) -> "openai.AsyncOpenAI":
        import openai

        return openai.AsyncOpenAI(
            api_key=self.settings.api_key or "none",
            base_url=with_version(self.settings.base_url),
            http_client=self.http_client,
            max_retries=0,
            default_headers=self.headers(),
        )

    def sdk_errors(self) -> SdkErrors:
        import openai

        return SdkErrors(openai.APIStatusError, openai.APIConnectionError, orjson.JSONDecodeError)

    def headers(self) -> Mapping[str, str]:
        return {}

    async def post(self, path: str, body: dict[str, Any], **query: str) -> Any:
        """Return the JSON of the answer. Raise the SDK's errors, also for an error sent with status 200."""
        response = await self.send(path, body, query)
        answer = orjson.loads(response.content)
        if isinstance(answer, dict) and (reports_failure(answer) or has_only_message(answer)):
            raise_failure(answer, response)
        return answer

    async def send(
        self, path: str, body: dict[str, Any], query: Mapping[str, str] | None = None, *, stream: bool = False
    ) -> httpx2.Response:
        """Send a request without the parameters that this server has refused for the model.

        With `stream`, the caller must read and close the response.
        """
        import openai

        model, options = body.get("model", ""), cast(Any, {"params": query or {}})
        refused = known = self.refused.get(model, frozenset())
        while True:
            accepted = without_refused(body, refused)
            try:
                response = await self.client.post(
                    path, cast_to=httpx2.Response, body=accepted, options=options, stream=stream
                )
            except openai.APIStatusError as error:
                newly_refused = refused_parameters(error.response, accepted) - refused
                if not newly_refused or RENAMED.keys() <= refused | newly_refused:  # the server refuses both names
                    raise
                refused |= newly_refused
                continue
            if refused != known:
                if len(self.refused) >= MAX_REMEMBERED:
                    self.refused.clear()
                self.refused[model] = refused
            return response

    # Completions

    async def complete(self, request: CompletionRequest) -> Completion:
        body = self.completion_body(request)
        return await whole_completion(ChatState(self), partial(self.send, "/chat/completions", body))

    def stream(self, request: CompletionRequest) -> AsyncGenerator[CompletionChunk, None]:
        body = self.completion_body(request) | {"stream": True, "stream_options": {"include_usage": True}}
        return read_chunks(ChatState(self), partial(self.send, "/chat/completions", body, stream=True))

    def completion_body(self, request: CompletionRequest) -> dict[str, Any]:
        messages = [{"role": "system", "content": request.instructions}] if request.instructions else []
        messages += [{"role": message.role, "content": message.content} for message in request.messages]
        body = {"model": request.model, "messages": messages, **self.sampling(request.model, request.sampling)}
        return {name: value for name, value in body.items() if value is not None}

    def sampling(self, model: str, sampling: Sampling) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            self.max_tokens_name: sampling.max_tokens,
            "stop": list(sampling.stop) or None,
            "reasoning_effort": reasoning_effort(model, sampling.reasoning_effort),
        }
        if not is_reasoning_model(model):
            parameters |= {"temperature": sampling.temperature, "top_p": sampling.top_p, **penalties(sampling)}
        return parameters

    # Embeddings

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        with upstream_errors(self, Capability.EMBEDDING):
            answer = await self.post("/embeddings", self.embedding_body(request))
            items = {
                position if (index := item.get("index")) is None else index: item
                for position, item in enumerate(answer["data"])
            }
            if len(items) != len(request.texts):
                raise empty_answer(
                    self,
                    Capability.EMBEDDING,
                    f"{self.label} sent embeddings for {len(items)} of {len(request.texts)} texts.",
                )
            as_base64 = self.sends_encoding_format and request.encoding_format == "base64"
            vectors: Any = [vector_in(items[index]["embedding"], as_base64) async for index in in_turns(sorted(items))]
            usage = read_usage(answer)
        return Embeddings(vectors, usage)

    def embedding_body(self, request: EmbeddingRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"model": request.model, "input": list(request.texts)}
        if request.dimensions:
            body["dimensions"] = request.dimensions
        if self.sends_encoding_format:
            body["encoding_format"] = request.encoding_format
        if self.sends_user and request.user:
            body["user"] = request.user
        return body

    # Images

    async def generate_images(self, request: ImageRequest) -> Images:
        with upstream_errors(self, Capability.IMAGE):
            answer = await self.post(*self.image_call(request))
            images = [
                GeneratedImage(
                    url=text_of(item, "url"),
                    base64=text_of(item, "b64_json"),
                    revised_prompt=text_of(item, "revised_prompt"),
                    mime_type=text_of(item, "media_type"),
                )
                for item in answer["data"]
                if item.get("url") or item.get("b64_json")
            ]
            usage = read_usage(answer)
        if not images:
            raise empty_answer(self, Capability.IMAGE, f"{self.label} sent an answer without an image.", usage)
        return Images(images, usage)

    def image_call(self, request: ImageRequest) -> tuple[str, dict[str, Any]]:
        return "/images/generations", image_body(request)

    async def moderate(self, text: str) -> bool:
        """Return whether the text is flagged. Source: https://platform.openai.com/docs/api-reference/moderations"""
        with upstream_errors(self, Capability.MODERATION):
            answer = await self.post("/moderations", {"input": text})
            return answer["results"][0]["flagged"] is True

    async def list_models(self) -> list[str]:
        with upstream_errors(self, Capability.COMPLETION):
            response = await self.client.get("/models", cast_to=httpx2.Response)
            return sorted(str(model["id"]) for model in orjson.loads(response.content)["data"])


def is_reasoning_model(model: str) -> bool:
    model = model.lower()
    found = REASONING_MODEL.search(model)
    return bool(found) and ("gpt-5" in model or "-chat-" not in model)


def reasoning_effort(model: str, effort: str | None) -> str | None:
    """Return the effort if the model accepts it, else None (not sent).

    Source: https://platform.openai.com/docs/api-reference/chat/create (reasoning_effort)
    """
    if not effort or not is_reasoning_model(model):
        return None
    model = model.lower()
    if effort == "minimal":
        effort = "low"
    version = re.search(r"gpt-5\.(\d+)", model)
    minor = int(version[1]) if version else 0
    allowed = ["low", "medium", "high"]
    if "pro" in model:
        allowed = ["medium", "high", "xhigh"] if minor >= 2 else ["high"]
    elif "codex" in model:
        allowed = ["low", "medium", "high", "xhigh"] if minor >= 1 else allowed
    elif minor >= 1:
        allowed = ["none", *allowed, "xhigh"] if minor >= 2 else ["none", *allowed]
    return effort if effort in allowed else None


def penalties(sampling: Sampling) -> dict[str, float | None]:
    """Return the penalties, without zeros: zero is the default everywhere, and some models refuse to receive it."""
    return {
        "frequency_penalty": sampling.frequency_penalty or None,
        "presence_penalty": sampling.presence_penalty or None,
    }


def text_of(item: dict[str, Any], name: str) -> str | None:
    value = item.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is not a string")
    return value


def vector_in(embedding: list[float] | str, as_base64: bool) -> list[float] | str:
    """Return the vector in the requested form, which compatible servers may ignore.

    Raise ValueError or TypeError unless it is a vector of finite numbers.
    """
    # The bytes are little-endian 32-bit floats, the memory layout of every supported processor.
    numbers = array("f", base64.b64decode(embedding, validate=True) if isinstance(embedding, str) else embedding)
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError("an embedding is empty or not finite")
    if as_base64:
        return embedding if isinstance(embedding, str) else base64.b64encode(numbers.tobytes()).decode()
    return numbers.tolist() if isinstance(embedding, str) else embedding


def image_body(request: ImageRequest) -> dict[str, Any]:
    """Return the request's body. Source: https://platform.openai.com/docs/api-reference/images/create"""
    body: dict[str, Any] = {"model": request.model, "prompt": request.prompt, "n": request.n, "user": END_USER}
    if "dall-e" in request.model.lower():
        body |= {
            "size": request.size,
            "response_format": request.response_format,
            "quality": request.quality if request.quality in ("standard", "hd") else None,
            "style": request.style,
        }
    else:  # gpt-image and later models always return base64
        output_format = (
            "png" if request.background == "transparent" and request.output_format == "jpeg" else request.output_format
        )
        body |= {
            "size": request.size or "1024x1024",
            "quality": request.quality if request.quality in ("auto", "low", "medium", "high") else None,
            "output_format": output_format or "png",
            "background": request.background,
            "output_compression": request.output_compression if output_format in ("jpeg", "webp") else None,
        }
    return {name: value for name, value in body.items() if value is not None}
