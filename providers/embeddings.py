"""The use case behind /embeddings: texts -> vectors."""

from providers.base import Capability, EmbeddingRequest, Embeddings
from providers.calls import provider_call
from providers.registry import get_provider
from puffer.api.authentication import Caller
from puffer.api.errors import ApiError


async def embed(caller: Caller | None, provider_slug: str, request: EmbeddingRequest) -> Embeddings:
    """One vector per text, in order. Raises ApiError; a blank text is a 400 naming its index."""
    for index, text in enumerate(request.texts):
        if not text.strip():
            raise ApiError(f"input[{index}] is blank.", status=400, code="rest_aipkit_invalid_param")
    provider = await get_provider(provider_slug, Capability.EMBEDDING)
    async with provider_call(provider, Capability.EMBEDDING, request.model, caller=caller) as call:
        embeddings = await provider.embed(request)
        call.usage = embeddings.usage
    return embeddings
