"""The suggestions in a chatbot's form: the known models of each provider, and the collections of each store."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from providers.base import Capability
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, default_model, is_configured
from vectorstores.models import Collection
from vectorstores.registry import STORES


def choices(request: HttpRequest) -> dict[str, Any]:
    """Return the data for choices.js. `first` is the provider of chatbots that have no provider set."""
    configs = list(ProviderConfig.objects.order_by("id"))
    may_refresh = request.user.has_perm("providers.change_providerconfig")
    page = "admin:providers_providerconfig_change"
    may_see_models = any(map(request.user.has_perm, ("chatbots.change_chatbot", "providers.view_providerconfig")))
    providers = {
        config.slug: {
            "label": PROVIDERS[config.slug].label,
            "models": config.known_models if may_see_models else [],
            "default": default_model(config, Capability.COMPLETION),
            "page": reverse(page, args=[config.pk]) if may_refresh else "",
        }
        for config in configs
    }
    usable = {config.slug for config in configs if is_configured(config) and providers[config.slug]["default"]}
    stores: dict[str, Any] = {slug: {"label": store.label, "collections": []} for slug, store in STORES.items()}
    may_see = request.user.has_perm("vectorstores.view_collection")
    for collection in Collection.objects.filter(store__in=stores) if may_see else ():
        suggestion = {"name": collection.name, "model": collection.embedding_model}
        stores[collection.store]["collections"].append(suggestion)
    return {
        "providers": providers,
        "first": next((slug for slug in PROVIDERS if slug in usable), ""),
        "stores": stores,
        "texts": {
            "knownModels": _("Known models of {provider}: {count}."),
            "noModels": _("No models of {provider} are known yet."),
            "refresh": _("Refresh the model list"),
            "defaultModel": _("Default: {model}."),
            "collections": _("Known collections"),
            "noCollections": _("No collections in {store} are known yet."),
        },
    }
