"""POST /generate, /images/generate and /embeddings."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from providers.base import Capability, EmbeddingRequest, ImageRequest, Usage
from providers.registry import PROVIDERS, default_model, get_config, providers_with
from providers.use_cases.completions import generate, require_text
from providers.use_cases.embeddings import embed
from providers.use_cases.images import generate_images
from puffer.api import (
    ApiError,
    Array,
    AsyncAPIView,
    Boolean,
    Integer,
    Object,
    Parameters,
    String,
    StringOrArray,
    caller_of,
    site_url,
)
from puffer.models import Scope
from puffer.text import is_blank, without_control_characters

MAX_MESSAGES = 2000
MAX_INPUTS = 2048  # texts; OpenAI's own limit
UPSTREAM_STATUSES = {
    "408": "The provider timed out.",
    "409": "The provider refused the call because of a conflict.",
    "422": "The provider could not process the call.",
    "429": "The provider's rate limit was reached. Retry-After is set if the provider sent it.",
    "502": "The provider failed, refused the server's credentials, or sent an unreadable answer.",
    "503": "The provider is overloaded or not configured.",
    "504": "The provider did not answer in time.",
}
ASPECT_RATIOS = ["auto", "1:1", "1:2", "2:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9"]
ASPECT_RATIOS += ["9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "1:4", "4:1", "1:8", "8:1"]
USAGE = {
    "type": ["object", "null"],
    "properties": {name: {"type": "integer"} for name in ("input_tokens", "output_tokens", "total_tokens")},
}


def slugs(capability: Capability) -> list[str]:
    return [provider.slug for provider in providers_with(capability)]


def usage_json(usage: Usage | None) -> dict[str, int] | None:
    return usage.as_json() if usage else None


class GenerateView(AsyncAPIView):
    """POST /generate: a completion for a list of messages."""

    required_scope = Scope.GENERATE
    error_statuses = UPSTREAM_STATUSES
    answer = {
        "type": "object",
        "properties": {
            "content": {"type": "string"},
            "usage": USAGE,
            "provider": {"type": "string"},
            "model": {"type": "string"},
        },
    }
    parameters = Parameters(
        provider=String(required=True, enum=slugs(Capability.COMPLETION)),
        model=String(required=True, description="The model's id; for Azure the name of the deployment."),
        messages=Array(
            Object(
                {
                    "role": String(required=True, enum=["system", "user", "assistant"]),
                    "content": String(required=True),
                }
            ),
            required=True,
            max_items=MAX_MESSAGES,
        ),
        stream=Boolean(default=False, description="Not supported: true is refused."),
        system_instruction=String(description="[date] and [username] are replaced."),
        ai_params=Object(
            description="temperature, max_completion_tokens, top_p, stop and others; they override the defaults."
        ),
    )

    async def post(
        self,
        request: Request,
        *,
        provider: str,
        model: str,
        messages: list[dict[str, str]],
        stream: bool,
        system_instruction: str | None,
        ai_params: dict[str, Any] | None,
    ) -> Response:
        require_text(model=model)
        if not messages:
            raise ApiError("messages must contain at least one message.", status=400, code="rest_aipkit_invalid_param")
        if stream:
            raise ApiError(
                "Streaming is not supported on this endpoint.", status=400, code="rest_aipkit_streaming_not_supported"
            )
        caller_of(request).require_model(provider, model)
        completion = await generate(
            caller_of(request),
            provider,
            model,
            messages,
            system_instruction=system_instruction,
            ai_params=ai_params,
        )
        return Response(
            {
                "content": completion.text,
                "usage": usage_json(completion.usage),
                "provider": PROVIDERS[provider].label,
                "model": model,
            }
        )


class ImagesView(AsyncAPIView):
    """POST /images/generate: images for a prompt, as URLs or base64."""

    required_scope = Scope.IMAGES
    error_statuses = UPSTREAM_STATUSES
    answer = {
        "type": "object",
        "properties": {
            "images": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        name: {"type": ["string", "null"]} for name in ("url", "b64_json", "revised_prompt")
                    },
                },
            },
            "usage": USAGE,
            "message": {"type": "string"},
        },
    }
    parameters = Parameters(
        prompt=String(required=True),
        provider=String(enum=slugs(Capability.IMAGE), default="openai"),
        model=String(description="The provider's default model if absent."),
        n=Integer(minimum=1, maximum=10, default=1),
        size=String(
            enum=[
                "256x256",
                "512x512",
                "1024x1024",
                "1792x1024",
                "1024x1792",
                "1536x1024",
                "1024x1536",
                "1024x768",
                "768x1024",
            ]
        ),
        quality=String(enum=["standard", "hd", "auto", "low", "medium", "high"]),
        aspect_ratio=String(enum=ASPECT_RATIOS),
        resolution=String(enum=["512", "1K", "2K", "4K"]),
        output_format=String(enum=["png", "jpeg", "webp"]),
        output_compression=Integer(minimum=0, maximum=100),
        background=String(enum=["auto", "transparent", "opaque"]),
        seed=Integer(minimum=0),
        style=String(enum=["vivid", "natural"]),
        response_format=String(enum=["url", "b64_json"], default="url"),
    )

    async def post(
        self, request: Request, *, prompt: str, provider: str, model: str | None, **options: Any
    ) -> Response:
        if is_blank(prompt):
            raise ApiError("The prompt must not be empty.", status=400, code="rest_aipkit_missing_prompt")
        model = (model or "").strip() or default_model(await get_config(provider), Capability.IMAGE)
        if not model:
            raise ApiError(
                f"{PROVIDERS[provider].label} has no default image model. Name a model.",
                status=400,
                code="azure_image_missing_deployment" if provider == "azure" else "rest_aipkit_missing_param",
            )
        caller_of(request).require_model(provider, model)
        drawn = await generate_images(
            caller_of(request),
            provider,
            ImageRequest(model=model, prompt=without_control_characters(prompt), **options),
            site_url(request._request) if options["response_format"] == "url" else "",
        )
        count = len(drawn.images)
        return Response(
            {
                "images": [
                    {
                        "url": image.url,
                        "b64_json": image.base64,
                        "revised_prompt": image.revised_prompt,
                        **({"mime_type": image.mime_type} if image.mime_type else {}),
                    }
                    for image in drawn.images
                ],
                "usage": usage_json(drawn.usage),
                "message": f"{count} image{'' if count == 1 else 's'} generated successfully.",
            }
        )


class EmbeddingsView(AsyncAPIView):
    """POST /embeddings: one vector per text, in order."""

    required_scope = Scope.EMBEDDINGS
    error_statuses = UPSTREAM_STATUSES
    answer = {
        "type": "object",
        "properties": {
            "embeddings": {
                "type": "array",
                "items": {"oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]},
            },
            "usage": USAGE,
            "provider": {"type": "string"},
            "model": {"type": "string"},
        },
    }
    parameters = Parameters(
        provider=String(required=True, enum=["openai", "google", "azure", "openrouter", "ollama", "local"]),
        model=String(required=True),
        input=StringOrArray(String(), required=True, max_items=MAX_INPUTS),
        dimensions=Integer(description="OpenAI, OpenRouter and Azure."),
        encoding_format=String(enum=["float", "base64"], default="float", description="OpenAI and OpenRouter."),
        task_type=String(
            enum=[
                "SEMANTIC_SIMILARITY",
                "CLASSIFICATION",
                "CLUSTERING",
                "RETRIEVAL_DOCUMENT",
                "RETRIEVAL_QUERY",
                "QUESTION_ANSWERING",
                "FACT_VERIFICATION",
                "CODE_RETRIEVAL_QUERY",
            ],
            description="Google and the bundled model.",
        ),
        output_dimensionality=Integer(description="Google."),
        user=String(description="OpenAI and Azure."),
    )

    async def post(
        self,
        request: Request,
        *,
        provider: str,
        model: str,
        input: str | list[str],
        dimensions: int | None,
        output_dimensionality: int | None,
        **options: Any,
    ) -> Response:
        require_text(model=model)
        if not input:
            raise ApiError("input must not be empty.", status=400, code="rest_aipkit_missing_param")
        caller_of(request).require_model(provider, model)
        embeddings = await embed(
            caller_of(request),
            provider,
            EmbeddingRequest(
                model=model,
                texts=[input] if isinstance(input, str) else input,
                dimensions=abs(dimensions or 0) or None,
                output_dimensionality=abs(output_dimensionality or 0) or None,
                **options,
            ),
        )
        usage = embeddings.usage
        return Response(
            {
                "embeddings": embeddings.vectors,
                "usage": usage and {"input_tokens": usage.input_tokens, "total_tokens": usage.total_tokens},
                "provider": PROVIDERS[provider].label,
                "model": model,
            }
        )
