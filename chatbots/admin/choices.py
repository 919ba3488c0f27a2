"""What a chatbot's form offers to choose from: the known models of each provider, the collections of each store."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from providers.base import Capability
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, default_model, is_configured
from vectorstores.models import Collection
from vectorstores.registry import STORES


def choices(request: HttpRequest) -> dict[str, Any]:
    """Return them as choices.js reads them. `first` is the provider that answers where a chatbot names none."""
    configs = list(ProviderConfig.objects.order_by("id"))
    refreshable = request.user.has_perm("providers.change_providerconfig")
    page = "admin:providers_providerconfig_change"
    providers = {
        config.slug: {
            "label": PROVIDERS[config.slug].label,
            "models": config.known_models,
            "default": default_model(config, Capability.COMPLETION),
            "page": reverse(page, args=[config.pk]) if refreshable else "",
        }
        for config in configs
    }
    answering = {config.slug for config in configs if is_configured(config) and providers[config.slug]["default"]}
    stores: dict[str, Any] = {slug: {"label": store.label, "collections": []} for slug, store in STORES.items()}
    for collection in Collection.objects.filter(store__in=stores):
        known = {"name": collection.name, "model": collection.embedding_model}
        stores[collection.store]["collections"].append(known)
    return {
        "providers": providers,
        "first": next((slug for slug in PROVIDERS if slug in answering), ""),
        "stores": stores,
    }
