"""Providers that speak OpenAI's Chat Completions protocol, each as a short subclass of its adapter."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from providers.adapters.base_urls import AZURE_V1
from providers.adapters.openai import DEPLOYMENT, OpenAI, penalties
from providers.base import Capability, EmbeddingRequest, ImageRequest, Sampling
from puffer.api import ApiError

if TYPE_CHECKING:
    import openai


class Azure(OpenAI):
    """The adapter of Azure OpenAI, where `model` is the name of a deployment.

    Sources: https://learn.microsoft.com/azure/ai-services/openai/reference; for an endpoint that ends with /openai/v1
    https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
    """

    slug = "azure"
    label = "Azure"
    capabilities = frozenset({Capability.COMPLETION, Capability.EMBEDDING, Capability.IMAGE})
    default_base_url = ""
    default_models: ClassVar[dict[Capability, str]] = {}
    sends_encoding_format = False
    api_version = "2025-01-01-preview"
    image_api_version = "2025-04-01-preview"

    def make_client(self) -> "openai.AsyncOpenAI":
        import openai

        if self.is_v1:
            return super().make_client()
        return openai.AsyncAzureOpenAI(
            api_key=self.settings.api_key,
            azure_endpoint=self.settings.base_url,
            api_version=self.settings.api_version or self.api_version,
            http_client=self.http_client,
            max_retries=0,
        )

    @property
    def is_v1(self) -> bool:
        return self.settings.base_url.endswith(AZURE_V1)

    async def send(
        self, path: str, body: dict[str, Any], query: Mapping[str, str] | None = None, *, stream: bool = False
    ) -> httpx2.Response:
        if self.is_v1:  # this API has no deployments in paths and no API versions
            return await super().send(path, body, query, stream=stream)
        if path == "/images/generations":
            query = {"api-version": self.settings.image_api_version or self.image_api_version}
        if not DEPLOYMENT.match(body["model"]):
            raise ApiError(
                "This is not a valid name of an Azure deployment.", status=400, code="rest_aipkit_invalid_param"
            )
        return await super().send(path, body, query, stream=stream)

    def sampling(self, model: str, sampling: Sampling) -> dict[str, Any]:
        # The deployment's name does not reveal its model, and some models refuse these: send only chosen values.
        parameters = super().sampling(model, sampling)
        defaults = {"temperature", "top_p"} - sampling.chosen
        return {name: value for name, value in parameters.items() if name not in defaults}


class OpenRouter(OpenAI):
    """The adapter of OpenRouter. Source: https://openrouter.ai/docs/api-reference"""

    slug = "openrouter"
    label = "OpenRouter"
    capabilities = frozenset({Capability.COMPLETION, Capability.EMBEDDING, Capability.IMAGE})
    default_base_url = "https://openrouter.ai/api/v1"
    default_models: ClassVar[dict[Capability, str]] = {
        Capability.COMPLETION: "openai/gpt-5.6-luna",
        Capability.IMAGE: "google/gemini-3.1-flash-image",
    }
    max_tokens_name = "max_tokens"
    sends_user = False

    def headers(self) -> Mapping[str, str]:
        site_url = self.settings.site_url
        return {"X-OpenRouter-Title": "puffer"} | ({"HTTP-Referer": site_url} if site_url else {})

    def sampling(self, model: str, sampling: Sampling) -> dict[str, Any]:
        # OpenRouter drops the parameters that a model does not support.
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.max_tokens_name: sampling.max_tokens,
            "top_k": sampling.top_k,
            "frequency_penalty": sampling.frequency_penalty,
            "presence_penalty": sampling.presence_penalty,
            "logprobs": True if sampling.top_logprobs else None,
            "top_logprobs": sampling.top_logprobs,
            "stop": list(sampling.stop) or None,
            "reasoning": {"effort": sampling.reasoning_effort} if sampling.reasoning_effort else None,
        }

    def image_call(self, request: ImageRequest) -> tuple[str, dict[str, Any]]:
        names = ["model", "prompt", "n", "size", "quality", "aspect_ratio", "resolution"]
        names += ["output_format", "output_compression", "background", "seed"]
        body = {name: getattr(request, name) for name in names}
        return "/images", {name: value for name, value in body.items() if value is not None}


class DeepSeek(OpenAI):
    """The adapter of DeepSeek. Source: https://api-docs.deepseek.com/api/create-chat-completion"""

    slug = "deepseek"
    label = "DeepSeek"
    capabilities = frozenset({Capability.COMPLETION})
    default_base_url = "https://api.deepseek.com/v1"
    default_models: ClassVar[dict[Capability, str]] = {Capability.COMPLETION: "deepseek-v4-flash"}
    max_tokens_name = "max_tokens"

    def sampling(self, model: str, sampling: Sampling) -> dict[str, Any]:
        thinks = sampling.reasoning_effort not in (None, "none")
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.max_tokens_name: sampling.max_tokens,
            "stop": list(sampling.stop) or None,
            # DeepSeek's default is on, which would spend the caller's tokens on hidden text.
            "thinking": sampling.thinking or {"type": "enabled" if thinks else "disabled"},
        }


class XAI(OpenAI):
    """The adapter of xAI. It sends no penalties or stop words, because xAI's reasoning models refuse them.

    Source: https://docs.x.ai/docs/api-reference
    """

    slug = "xai"
    label = "xAI"
    capabilities = frozenset({Capability.COMPLETION})
    default_base_url = "https://api.x.ai/v1"
    default_models: ClassVar[dict[Capability, str]] = {Capability.COMPLETION: "grok-4.3"}

    def sampling(self, model: str, sampling: Sampling) -> dict[str, Any]:
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.max_tokens_name: sampling.max_tokens,
        }


class OwnServer(OpenAI):
    """The adapter of a server on the owner's machine or network, which needs no key."""

    capabilities = frozenset({Capability.COMPLETION, Capability.EMBEDDING})
    needs_api_key = False
    default_models: ClassVar[dict[Capability, str]] = {}
    max_tokens_name = "max_tokens"
    sends_encoding_format = False
    sends_user = False

    def sampling(self, model: str, sampling: Sampling) -> dict[str, Any]:
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.max_tokens_name: sampling.max_tokens,
            "stop": list(sampling.stop) or None,
            **penalties(sampling),
        }


class Local(OwnServer):
    """The adapter of the bundled models, which run in a process of their own: see providers/local."""

    slug = "local"
    label = "Local"
    default_base_url = ""
    default_models: ClassVar[dict[Capability, str]] = {
        Capability.COMPLETION: "smollm2-135m-instruct",
        Capability.EMBEDDING: "multilingual-e5-small",
    }

    def embedding_body(self, request: EmbeddingRequest) -> dict[str, Any]:
        body = super().embedding_body(request)
        if request.task_type:
            body["task_type"] = request.task_type  # the model embeds questions and passages differently
        return body
