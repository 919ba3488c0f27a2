"""Credentials for other servers in the admin. A saved key is never shown.

The models have `slug`, `api_key`, `base_url` and `environment` (the values of environment variables).
"""

from abc import abstractmethod
from typing import Any, cast

from django import forms
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanWidget

from puffer.admin.confirmed import ConfirmedChanges
from puffer.admin.dialogs import DialogActions, dialog
from puffer.security.encryption import UnreadableSecret

KEY_STATES = {  # key -> label, and unfold's color of it
    "saved": (_("saved here"), "success"),
    "environment": (_("from the environment"), "success"),
    "unneeded": (_("not needed"), "info"),
    "unreadable": (_("saved but unreadable"), "danger"),
    "missing": (_("missing"), "warning"),
}


def connection_test(explanation: Any, permission: str = "change") -> Any:
    """Return the decorator of an action that tests the saved settings. `explanation` is shown before it runs."""
    return action(
        description=_("Test connection"),
        icon="network_check",
        permissions=[permission],
        dialog=dialog(_("Test the connection"), explanation, _("Test")),
    )


def has_saved_key(config: Any) -> bool:
    return bool(config.api_key) or isinstance(config.api_key, UnreadableSecret)


class CredentialsForm(forms.ModelForm):
    """A form whose API key field is always shown empty. Left empty, it keeps the saved key."""

    api_key = forms.CharField(
        label=_("API key"), required=False, widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"})
    )
    forget_api_key = forms.BooleanField(label=_("Delete the saved key"), required=False, widget=UnfoldBooleanWidget)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial.pop("api_key", None)
        if "api_key" in self.fields:
            self.fields["api_key"].help_text = (
                _("A key is saved. Leave empty to keep it.") if has_saved_key(self.instance) else _("No key is saved.")
            )

    def clean_api_key(self) -> str:
        key = self.cleaned_data["api_key"]
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise forms.ValidationError(
                _("The key contains invalid characters. Copy it again from the provider's dashboard.")
            )
        return key

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        typed, forgotten = cleaned.get("api_key"), cleaned.get("forget_api_key")
        if typed and forgotten:
            self.add_error("forget_api_key", _("Enter a new key or delete the saved one, not both."))
        elif not typed:
            saved = "" if forgotten else self.instance.api_key
            if "base_url" in self.changed_data and (saved or self.environment_key_would_move(cleaned)):
                # Otherwise anyone who may change these settings could have the key sent to a server of their choice.
                self.add_error(
                    "api_key", _("The address changed. Enter the key again to confirm that it may be sent there.")
                )
            cleaned["api_key"] = saved
        return cleaned

    def environment_key_would_move(self, cleaned: dict[str, Any]) -> bool:
        """Return whether the key from the environment would be sent to a newly entered address."""
        return bool(self.instance.environment.get("api_key") and cleaned.get("base_url"))


class CredentialsAdmin(ConfirmedChanges, DialogActions, ModelAdmin):
    """Pages for rows that always exist: they can be changed and tested, but not added or deleted."""

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
        """Return why the server cannot be called with these settings, or "" if it can."""

    def access_fields(self, request: HttpRequest, config: Any) -> list[str]:
        fields = ["explained"]
        if self.has_change_permission(request, config):  # without it the field would be read-only and show the key
            fields += ["api_key", "forget_api_key"] if has_saved_key(config) else ["api_key"]
        return [*fields, "base_url", "effective_base_url"]

    def key_state(self, config: Any) -> str:
        if isinstance(config.api_key, UnreadableSecret):
            return "unreadable"
        if config.api_key:
            return "saved"
        if config.environment.get("api_key"):
            return "environment"
        return "missing" if self.needs_api_key(config) else "unneeded"

    @display(description=_("API key"), label={state: color for state, (_label, color) in KEY_STATES.items()})
    def state(self, config: Any) -> tuple[str, str]:
        state = self.key_state(config)
        return state, str(KEY_STATES[state][0])

    @display(description=_("configured"))
    def explained(self, config: Any) -> str:
        key, label = self.state(config)
        refusal = self.refusal(config)
        sentences = [gettext("No."), refusal] if refusal else [gettext("Yes. API key: %(state)s.") % {"state": label}]
        if key == "unreadable":
            sentences.append(gettext("No key in PUFFER_ENCRYPTION_KEYS can decrypt it. Enter it again."))
        if not refusal:
            sentences.append(gettext("“Test connection” shows whether it works."))
        return " ".join(sentences)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
