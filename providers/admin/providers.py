"""Providers in the admin: credentials, default models and the connection test. Every provider has a row."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from providers.adapters.base_urls import clean_base_url
from providers.base import Capability, Provider
from providers.check_connection import check_connection, read_models
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, default_model, refuse_unconfigured, settings_of
from providers.run_async import run_async
from puffer.admin import CredentialsAdmin, CredentialsForm, MenuItem, Section, connection_test, dialog
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
    base_url_was_corrected = False

    class Meta:
        model = ProviderConfig
        fields = ["api_key", "base_url", "api_version", "image_api_version", "context_length", *DEFAULT_MODEL_FIELDS]
        widgets = {name: UnfoldAdminTextInputWidget({"list": "known-models"}) for name in DEFAULT_MODEL_FIELDS}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if typed := cleaned.get("base_url"):
            cleaned["base_url"], api_version = clean_base_url(
                self.instance.slug, typed, provider_of(self.instance).default_base_url
            )
            if api_version and not cleaned.get("api_version"):
                cleaned["api_version"] = api_version
            self.base_url_was_corrected = cleaned["base_url"] != typed.rstrip("/")
        return cleaned

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, capability in DEFAULT_MODEL_FIELDS.items():
            if name in self.fields:
                default = provider_of(self.instance).default_models.get(capability)
                self.fields[name].help_text = (
                    gettext("Leave empty to use %(model)s.") % {"model": default} if default else ""
                )


@admin.register(ProviderConfig)
class ProviderConfigAdmin(CredentialsAdmin):
    menu = [MenuItem(Section.MAIN, 2, "hub")]
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
        if obj.slug == "ollama":
            access.append("context_length")
        models = [name for name, capability in DEFAULT_MODEL_FIELDS.items() if capability in capabilities]
        return [(provider_of(obj).label, {"fields": access}), (_("Default models"), {"fields": [*models, "known"]})]

    def save_model(self, request: HttpRequest, obj: ProviderConfig, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if form.base_url_was_corrected:
            messages.info(
                request,
                _("The base URL was saved as %(url)s: the path of each call is added to it.") % {"url": obj.base_url},
            )

    @admin.display(description=_("provider"), ordering="id")
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

    @admin.display(description=_("base URL in use"))
    def effective_base_url(self, config: ProviderConfig) -> str:
        return settings_of(config).base_url

    @admin.display(description=_("default model"))
    def effective_model(self, config: ProviderConfig) -> str:
        return default_model(config, Capability.COMPLETION)

    @admin.display(description=_("known models"))
    def known(self, config: ProviderConfig) -> str:
        if config.known_models_at is None:
            return ""
        return gettext("%(count)d, as of %(time)s") % {
            "count": len(config.known_models),
            "time": moment(config.known_models_at),
        }

    @connection_test(_("Sends a short hello to the default model, using the saved settings."))
    def test_connection(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        config = self.saved(request, object_id)
        try:
            messages.success(request, run_async(lambda: check_connection(config)))
        except ApiError as error:
            messages.error(request, gettext("Connection failed: %(error)s") % {"error": error.message})
        return self.page_of(config)

    @action(
        description=_("Refresh model list"),
        icon="sync",
        permissions=["change"],
        dialog=dialog(
            _("Refresh the list of models"),
            _("Asks the provider which models the account may use. This is free."),
            _("Refresh"),
        ),
    )
    def refresh_models(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        config = self.saved(request, object_id)
        try:
            config.known_models = run_async(lambda: read_models(config))
        except ApiError as error:
            messages.error(request, gettext("The list could not be read: %(reason)s") % {"reason": error.message})
            return self.page_of(config)
        config.known_models_at = timezone.now()
        config.save(update_fields=["known_models", "known_models_at"])
        self.log_change(request, config, "List of models refreshed.")
        messages.success(
            request,
            ngettext("%d model found.", "%d models found.", len(config.known_models)) % len(config.known_models),
        )
        return self.page_of(config)
