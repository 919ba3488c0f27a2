"""Providers: their credentials and defaults. The nine rows are there from the start."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from providers.base import Capability, Provider
from providers.check_connection import read_models, try_out
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, default_model, refuse_unconfigured, settings_of
from providers.run_async import run_async
from puffer.admin import CredentialsAdmin, CredentialsForm
from puffer.api import ApiError
from puffer.text import moment

DEFAULT_MODEL_FIELDS = {
    "default_model": Capability.COMPLETION,
    "default_image_model": Capability.IMAGE,
    "default_embedding_model": Capability.EMBEDDING,
}


def provider_of(config: ProviderConfig) -> type[Provider]:
    return PROVIDERS[config.slug]


class ProviderConfigForm(CredentialsForm):
    class Meta:
        model = ProviderConfig
        fields = ["api_key", "base_url", "api_version", "image_api_version", *DEFAULT_MODEL_FIELDS]
        widgets = {name: UnfoldAdminTextInputWidget({"list": "known-models"}) for name in DEFAULT_MODEL_FIELDS}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, capability in DEFAULT_MODEL_FIELDS.items():
            if name in self.fields:
                own = provider_of(self.instance).default_models.get(capability)
                self.fields[name].help_text = f"Empty: {own}." if own else "Empty: none."


@admin.register(ProviderConfig)
class ProviderConfigAdmin(CredentialsAdmin):
    form = ProviderConfigForm
    list_display = ["label", "state", "effective_base_url", "effective_model", "known"]
    actions_detail = ["test_connection", "refresh_models"]
    actions_row = ["test_connection", "refresh_models"]
    readonly_fields = ["explained", "effective_base_url", "known"]
    change_form_after_template = "admin/providers/known_models.html"

    def get_fieldsets(self, request: HttpRequest, obj: ProviderConfig | None = None) -> list[Any]:
        assert obj is not None  # there is no page to add one
        access = self.access_fields(request, obj)
        if obj.slug == "azure":
            access += ["api_version", "image_api_version"]
        capabilities = provider_of(obj).capabilities
        models = [name for name, capability in DEFAULT_MODEL_FIELDS.items() if capability in capabilities]
        return [(provider_of(obj).label, {"fields": access}), ("Default models", {"fields": [*models, "known"]})]

    @admin.display(description="provider", ordering="id")
    def label(self, config: ProviderConfig) -> str:
        return provider_of(config).label

    def needs_api_key(self, config: ProviderConfig) -> bool:
        return provider_of(config).needs_api_key

    def refusal(self, config: ProviderConfig) -> str:
        try:
            refuse_unconfigured(provider_of(config), settings_of(config))
        except ApiError as error:
            return error.message
        return ""

    @admin.display(description="base URL in use")
    def effective_base_url(self, config: ProviderConfig) -> str:
        return settings_of(config).base_url

    @admin.display(description="default model")
    def effective_model(self, config: ProviderConfig) -> str:
        return default_model(config, Capability.COMPLETION)

    @admin.display(description="known models")
    def known(self, config: ProviderConfig) -> str:
        if config.known_models_at is None:
            return ""
        return f"{len(config.known_models)}, as of {moment(config.known_models_at)}"

    @action(
        description="Test connection",
        icon="network_check",
        permissions=["change"],
        dialog={
            "title": "Test the connection",
            "description": "The default model is asked to say hello, with the settings that are saved.",
            "form_class": None,
            "form_submit_text": "Test",
        },
    )
    def test_connection(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        config = self.saved(request, object_id)
        try:
            messages.success(request, run_async(lambda: try_out(config)))
        except ApiError as error:
            messages.error(request, f"It does not work. {error.message}")
        return self.page_of(config)

    @action(
        description="Refresh model list",
        icon="sync",
        permissions=["change"],
        dialog={
            "title": "Refresh the list of models",
            "description": "The provider is asked which models the account may use. This costs nothing.",
            "form_class": None,
            "form_submit_text": "Refresh",
        },
    )
    def refresh_models(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        config = self.saved(request, object_id)
        try:
            config.known_models = run_async(lambda: read_models(config))
        except ApiError as error:
            messages.error(request, f"The list could not be read. {error.message}")
            return self.page_of(config)
        config.known_models_at = timezone.now()
        config.save(update_fields=["known_models", "known_models_at"])
        self.log_change(request, config, "List of models refreshed.")
        messages.success(request, f"{provider_of(config).label} has {len(config.known_models)} models.")
        return self.page_of(config)
