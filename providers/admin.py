"""Providers: their credentials and defaults. The nine rows are there from the start."""

from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from providers.base import Capability, Provider
from providers.connection import on_event_loop, read_models, try_out
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, default_model, refuse_unconfigured, settings_of
from puffer.api.errors import ApiError
from puffer.encryption import UnreadableSecret

DEFAULT_MODEL_FIELDS = {
    "default_model": Capability.COMPLETION,
    "default_image_model": Capability.IMAGE,
    "default_embedding_model": Capability.EMBEDDING,
}


def provider_of(config: ProviderConfig) -> type[Provider]:
    return PROVIDERS[config.slug]


def has_saved_key(config: ProviderConfig) -> bool:
    return bool(config.api_key) or isinstance(config.api_key, UnreadableSecret)


class ProviderConfigForm(forms.ModelForm):
    """The API key goes in and never comes out: the field is always empty, and empty means unchanged."""

    api_key = forms.CharField(
        label="API key", required=False, widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"})
    )
    forget_api_key = forms.BooleanField(label="Forget the saved key", required=False, widget=UnfoldBooleanWidget)

    class Meta:
        model = ProviderConfig
        fields = ["api_key", "base_url", "api_version", "image_api_version", *DEFAULT_MODEL_FIELDS]
        widgets = {name: UnfoldAdminTextInputWidget({"list": "known-models"}) for name in DEFAULT_MODEL_FIELDS}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial.pop("api_key", None)
        if "api_key" in self.fields:
            self.fields["api_key"].help_text = (
                "A key is saved. Empty: it stays as it is." if has_saved_key(self.instance) else "No key is saved."
            )
        for name, capability in DEFAULT_MODEL_FIELDS.items():
            if name in self.fields:
                own = provider_of(self.instance).default_models.get(capability)
                self.fields[name].help_text = f"Empty: {own}." if own else "Empty: none."

    def clean_api_key(self) -> str:
        key = self.cleaned_data["api_key"]
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise forms.ValidationError("A key has no blanks and no special letters in it.")
        return key

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        if cleaned.get("api_key") and cleaned.get("forget_api_key"):
            self.add_error("forget_api_key", "Give a new key or forget the saved one.")
        elif not cleaned.get("api_key") and not cleaned.get("forget_api_key"):
            if self.instance.api_key and "base_url" in self.changed_data:
                # Else whoever may change a provider could have its key sent to a server of their own.
                self.add_error("api_key", "Enter the key again: it would go to another address.")
            cleaned["api_key"] = self.instance.api_key
        return cleaned


@admin.register(ProviderConfig)
class ProviderConfigAdmin(ModelAdmin):
    form = ProviderConfigForm
    list_display = ["label", "state", "effective_base_url", "effective_model", "known"]
    list_display_links = ["label"]
    ordering = ["id"]
    actions = None
    actions_detail = ["test_connection", "refresh_models"]
    actions_row = ["test_connection", "refresh_models"]
    readonly_fields = ["explained", "effective_base_url", "known"]
    change_form_after_template = "admin/providers/known_models.html"

    def get_fieldsets(self, request: HttpRequest, obj: ProviderConfig | None = None) -> list[Any]:
        assert obj is not None  # there is no page to add one
        access = ["explained"]
        if self.has_change_permission(request, obj):  # to others Django would show the field's value
            access += ["api_key", "forget_api_key"] if has_saved_key(obj) else ["api_key"]
        access += ["base_url", "effective_base_url"]
        if obj.slug == "azure":
            access += ["api_version", "image_api_version"]
        capabilities = provider_of(obj).capabilities
        models = [name for name, capability in DEFAULT_MODEL_FIELDS.items() if capability in capabilities]
        return [(provider_of(obj).label, {"fields": access}), ("Default models", {"fields": [*models, "known"]})]

    @admin.display(description="provider", ordering="id")
    def label(self, config: ProviderConfig) -> str:
        return provider_of(config).label

    @display(
        description="API key",
        label={
            "saved here": "success",
            "from the environment": "success",
            "not needed": "info",
            "saved but unreadable": "danger",
            "missing": "warning",
        },
    )
    def state(self, config: ProviderConfig) -> str:
        if isinstance(config.api_key, UnreadableSecret):
            return "saved but unreadable"
        if config.api_key:
            return "saved here"
        if settings.PROVIDER_ENVIRONMENT.get(config.slug, {}).get("api_key"):
            return "from the environment"
        return "missing" if provider_of(config).needs_api_key else "not needed"

    @admin.display(description="configured")
    def explained(self, config: ProviderConfig) -> str:
        key = self.state(config)
        hint = "None of PUFFER_ENCRYPTION_KEYS opens it: enter it again. " if key == "saved but unreadable" else ""
        try:
            refuse_unconfigured(provider_of(config), settings_of(config))
        except ApiError as error:
            return f"No. {error.message} {hint}"
        return f"Yes. API key: {key}. {hint}“Test connection” shows whether it works."

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
        return f"{len(config.known_models)}, as of {timezone.localtime(config.known_models_at):%Y-%m-%d %H:%M}"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

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
            messages.success(request, on_event_loop(lambda: try_out(config)))
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
            config.known_models = on_event_loop(lambda: read_models(config))
        except ApiError as error:
            messages.error(request, f"The list could not be read. {error.message}")
            return self.page_of(config)
        config.known_models_at = timezone.now()
        config.save(update_fields=["known_models", "known_models_at"])
        messages.success(request, f"{provider_of(config).label} has {len(config.known_models)} models.")
        return self.page_of(config)

    def saved(self, request: HttpRequest, object_id: str) -> ProviderConfig:
        config = self.get_object(request, object_id)
        if config is None:
            raise Http404
        return config

    def page_of(self, config: ProviderConfig) -> HttpResponse:
        """Where to go from a dialog: its form is sent by htmx, which follows this header."""
        return HttpResponse(headers={"HX-Redirect": reverse("admin:providers_providerconfig_change", args=[config.pk])})
