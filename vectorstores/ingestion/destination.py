"""Where documents are stored: a collection, and the embedding model that fills it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.conf import settings

from providers.base import Capability
from providers.local import installed
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, default_model, is_configured, providers_with
from puffer.api import ApiError
from vectorstores.models import Collection

Embedding = tuple[str, str]  # provider and model


@dataclass(frozen=True, slots=True)
class Destination:
    """A collection in a store (its slug), and the model whose embeddings the collection holds."""

    store: str
    target: str
    embedding_provider: str
    embedding_model: str
    namespace: str = ""


def choose_embedding(
    store: str, target: str, provider: str | None, model: str | None, brought: Embedding | None = None
) -> Embedding:
    """Return the named provider and model, otherwise those that filled the collection, otherwise the first available.

    `brought` made the embeddings that the documents bring along; it takes precedence over what is available. Raises
    ApiError if there is no model, or if another model filled the collection: their vectors cannot be compared.
    """
    if filled := embedding_of(store, target):
        if (provider or filled[0], model or filled[1]) != filled:
            raise ApiError(
                f"{target!r} was filled with {filled[1]} of {filled[0]}. Use that model or another collection, "
                "or move the collection to a new model with the command reembed.",
                status=400,
            )
        return filled
    if provider and model:
        return provider, model
    if brought is not None and not (provider or model):
        return brought
    if chosen := available_embedding(provider, model):
        return chosen
    raise ApiError(
        "No embedding model is available. Connect a provider that offers one, or name a provider and a model.",
        status=503,
    )


def embedding_of(store: str, target: str) -> Embedding | None:
    """Return the embedding model that puffer filled the collection with; None if unknown."""
    filled = Collection.objects.filter(store=store, name=target, embedding_model__gt="").first()
    return (filled.embedding_provider, filled.embedding_model) if filled else None


def available_embedding(provider: str | None = None, model: str | None = None) -> Embedding | None:
    """Return a model of the named provider, configured or not; without a name one of the first configured provider."""
    if provider:
        config = ProviderConfig.objects.filter(slug=provider).first() or ProviderConfig(slug=provider)
        default = model or default_model(config, Capability.EMBEDDING)
        return (provider, default) if default else None
    return first_configured(embedding_providers(), model)


def first_configured(slugs: Iterable[str], model: str | None = None) -> Embedding | None:
    return next(configured(slugs, model), None)


def configured(slugs: Iterable[str], model: str | None = None) -> Iterator[Embedding]:
    """Yield those of the providers that can embed and are configured, each with `model` or its default model."""
    configs = {config.slug: config for config in ProviderConfig.objects.all()}
    for slug in slugs:
        config = configs.get(slug) or ProviderConfig(slug=slug)
        chosen = model or default_model(config, Capability.EMBEDDING)
        is_ready = is_configured(config) or (slug == "local" and settings.LOCAL_MODEL and installed())
        if Capability.EMBEDDING in PROVIDERS[slug].capabilities and chosen and is_ready:
            yield slug, chosen


def embedding_providers() -> list[str]:
    """Return the slugs of all providers that embed: the bundled model first, because it is free and stays local."""
    slugs = [adapter.slug for adapter in providers_with(Capability.EMBEDDING)]
    return ["local", *(slug for slug in slugs if slug != "local")]
