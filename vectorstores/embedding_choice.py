"""Which model embeds, where nobody says."""

from collections.abc import Iterable, Iterator

from django.conf import settings

from providers.base import Capability
from providers.local_engines import installed
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, default_model, is_configured, providers_with
from puffer.api.errors import ApiError
from vectorstores.models import Collection

Embedding = tuple[str, str]  # provider and model


def choose_embedding(
    store: str, target: str, provider: str | None, model: str | None, brought: Embedding | None = None
) -> Embedding:
    """The named provider and model, else those that the collection was filled with, else the first at hand.

    `brought` is the embedding of vectors that come ready made; it counts before what is at hand. Raises ApiError if
    there is none, or if the collection was filled with another: its vectors would mean nothing to each other.
    """
    if filled := embedding_of(store, target):
        if (provider or filled[0], model or filled[1]) != filled:
            raise ApiError(
                f"{target!r} was filled with {filled[1]} of {filled[0]}: take that, or another collection "
                "(see reembed).",
                status=400,
            )
        return filled
    if provider and model:
        return provider, model
    if brought is not None and not (provider or model):
        return brought
    if chosen := embedding_at_hand(provider, model):
        return chosen
    raise ApiError("There is no embedding model: name one with --embedding-provider and --embedding-model.", status=503)


def embedding_of(store: str, target: str) -> Embedding | None:
    """What a collection was filled with from here."""
    filled = Collection.objects.filter(store=store, name=target, embedding_model__gt="").first()
    return (filled.embedding_provider, filled.embedding_model) if filled else None


def embedding_at_hand(provider: str | None = None, model: str | None = None) -> Embedding | None:
    """Of the provider, named or not configured as it may be; without one the bundled model, else the first that is."""
    if provider:
        config = ProviderConfig.objects.filter(slug=provider).first() or ProviderConfig(slug=provider)
        default = model or default_model(config, Capability.EMBEDDING)
        return (provider, default) if default else None
    return first_configured(embedding_providers(), model)


def first_configured(slugs: Iterable[str], model: str | None = None) -> Embedding | None:
    return next(configured(slugs, model), None)


def configured(slugs: Iterable[str], model: str | None = None) -> Iterator[Embedding]:
    """Those of the providers that embed and are ready to, each with its default model unless one is named."""
    configs = {config.slug: config for config in ProviderConfig.objects.all()}
    for slug in slugs:
        config = configs.get(slug) or ProviderConfig(slug=slug)
        chosen = model or default_model(config, Capability.EMBEDDING)
        is_ready = is_configured(config) or (slug == "local" and settings.LOCAL_MODEL and installed())
        if Capability.EMBEDDING in PROVIDERS[slug].capabilities and chosen and is_ready:
            yield slug, chosen


def embedding_providers() -> list[str]:
    """The bundled model first: it costs nothing and asks nobody."""
    slugs = [adapter.slug for adapter in providers_with(Capability.EMBEDDING)]
    return ["local", *(slug for slug in slugs if slug != "local")]
