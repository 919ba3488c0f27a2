"""Credentials for calling others, in the admin: a key goes in and never comes out.

For models with `slug`, `api_key`, `base_url`, and `environment`: what environment variables say where nothing is saved.
"""

from abc import abstractmethod
from typing import Any, cast

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanWidget

from puffer.security.encryption import UnreadableSecret


def has_saved_key(config: Any) -> bool:
    return bool(config.api_key) or isinstance(config.api_key, UnreadableSecret)


class CredentialsForm(forms.ModelForm):
    """The API key's field is always empty, and empty means unchanged."""

    api_key = forms.CharField(
        label="API key", required=False, widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"})
    )
    forget_api_key = forms.BooleanField(label="Forget the saved key", required=False, widget=UnfoldBooleanWidget)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial.pop("api_key", None)
        if "api_key" in self.fields:
            self.fields["api_key"].help_text = (
                "A key is saved. Empty: it stays as it is." if has_saved_key(self.instance) else "No key is saved."
            )

    def clean_api_key(self) -> str:
        key = self.cleaned_data["api_key"]
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise forms.ValidationError("A key has no blanks and no special letters in it.")
        return key

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        typed, forgotten = cleaned.get("api_key"), cleaned.get("forget_api_key")
        if typed and forgotten:
            self.add_error("forget_api_key", "Give a new key or forget the saved one.")
        elif not typed:
            saved = "" if forgotten else self.instance.api_key
            if "base_url" in self.changed_data and (saved or self.environment_key_would_move(cleaned)):
                # Else whoever may change these settings could have the key sent to a server of their own.
                self.add_error("api_key", "Enter the key again: it would go to another address.")
            cleaned["api_key"] = saved
        return cleaned

    def environment_key_would_move(self, cleaned: dict[str, Any]) -> bool:
        """Not where no address is left: then the one that belongs to it counts."""
        return bool(self.instance.environment.get("api_key") and cleaned.get("base_url"))


class CredentialsAdmin(ModelAdmin):
    """Rows that are there from the start: changed and tried out, but never added or deleted."""

    list_display_links = ["label"]
    ordering = ["id"]
    actions = None

    def name_of(self, config: Any) -> str:
        return self.label(config)

    @abstractmethod
    def label(self, config: Any) -> str: ...

    @abstractmethod
    def needs_api_key(self, config: Any) -> bool: ...

    @abstractmethod
    def refusal(self, config: Any) -> str:
        """Why it cannot be called as it is set up; "" if it can."""

    def access_fields(self, request: HttpRequest, config: Any) -> list[str]:
        fields = ["explained"]
        if self.has_change_permission(request, config):  # to others Django would show the field's value
            fields += ["api_key", "forget_api_key"] if has_saved_key(config) else ["api_key"]
        return [*fields, "base_url", "effective_base_url"]

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
    def state(self, config: Any) -> str:
        if isinstance(config.api_key, UnreadableSecret):
            return "saved but unreadable"
        if config.api_key:
            return "saved here"
        if config.environment.get("api_key"):
            return "from the environment"
        return "missing" if self.needs_api_key(config) else "not needed"

    @display(description="configured")
    def explained(self, config: Any) -> str:
        key = self.state(config)
        hint = "None of PUFFER_ENCRYPTION_KEYS opens it: enter it again. " if key == "saved but unreadable" else ""
        refusal = self.refusal(config)
        if refusal:
            return f"No. {refusal} {hint}"
        return f"Yes. API key: {key}. {hint}“Test connection” shows whether it works."

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def saved(self, request: HttpRequest, object_id: str) -> Any:
        config = self.get_object(request, object_id)
        if config is None:
            raise Http404
        return config

    def page_of(self, config: Any) -> HttpResponse:
        """Where to go from a dialog: its form is sent by htmx, which follows this header."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return HttpResponse(headers={"HX-Redirect": reverse(name, args=[config.pk])})
