"""Which model embeds, where nobody says."""

from django.conf import settings

from providers.base import Capability
from providers.local_model import installed
from providers.models import ProviderConfig
from providers.registry import default_model, is_configured, providers_with
from puffer.api.errors import ApiError
from vectorstores.models import Collection


def choose_embedding(store: str, target: str, provider: str | None, model: str | None) -> tuple[str, str]:
    """The named provider and model, else those that the collection was filled with, else the first at hand.

    Raises ApiError if that is none, or if the collection was filled with another model: its vectors would mean nothing
    to each other.
    """
    filled = Collection.objects.filter(store=store, name=target, embedding_model__gt="").first()
    if filled:
        if (provider or filled.embedding_provider) != filled.embedding_provider or (
            model or filled.embedding_model
        ) != filled.embedding_model:
            raise ApiError(
                f"{target!r} was filled with {filled.embedding_model} of {filled.embedding_provider}: take that, or "
                "another collection (see reembed).",
                status=400,
            )
        return filled.embedding_provider, filled.embedding_model
    configs = {config.slug: config for config in ProviderConfig.objects.all()}
    candidates = [adapter.slug for adapter in providers_with(Capability.EMBEDDING)]
    for slug in [provider] if provider else ["local", *candidates]:
        config = configs.get(slug) or ProviderConfig(slug=slug)
        chosen = model or default_model(config, Capability.EMBEDDING)
        is_there = is_configured(config) or (slug == "local" and settings.LOCAL_MODEL and installed())
        if chosen and (provider or is_there):
            return slug, chosen
    raise ApiError("There is no embedding model: name one with --embedding-provider and --embedding-model.", status=503)
