"""The use case behind /embeddings: texts to vectors."""

from providers.base import Capability, EmbeddingRequest, Embeddings
from providers.calls import provider_call
from providers.registry import get_provider
from puffer.api import ApiError, Caller
from puffer.text import is_blank

# The default dimension of some models, to know it before the first embedding is paid for. Sources: the vendors' model
# pages.
DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
    "gemini-embedding-001": 3072,
    "multilingual-e5-small": 384,
    "nomic-embed-text": 768,
    "mxbai-embed-large": 1024,
}


def known_dimension(model: str) -> int | None:
    """Return the dimension of a model's vectors, or None if it is unknown.

    Accept ids as providers write them, such as openai/text-embedding-3-small or nomic-embed-text:latest.
    """
    return DIMENSIONS.get(model.rpartition("/")[2].partition(":")[0])


async def embed(
    caller: Caller | None, provider_slug: str, request: EmbeddingRequest, *, chatbot_id: int | None = None
) -> Embeddings:
    """Return one vector per text, in order. Raise ApiError; for a blank text it is a 400 that names the index."""
    for index, text in enumerate(request.texts):
        if is_blank(text):
            raise ApiError(f"input[{index}] is blank.", status=400, code="rest_aipkit_invalid_param")
    provider = await get_provider(provider_slug, Capability.EMBEDDING)
    async with provider_call(
        provider, Capability.EMBEDDING, request.model, caller=caller, chatbot_id=chatbot_id
    ) as call:
        embeddings = await provider.embed(request)
        call.usage = embeddings.usage
    return embeddings
