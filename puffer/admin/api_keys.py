"""API keys in the admin: create a key, show it once, and revoke it."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from puffer.admin.confirmed import ConfirmedChanges
from puffer.admin.lines_field import LinesField
from puffer.admin.navigation import MenuItem, Section
from puffer.models import ApiKey, Scope
from puffer.security.confirmation import recently_confirmed

STATES = {  # key -> label, and unfold's color of it
    "active": (_("active"), "success"),
    "expired": (_("expired"), "warning"),
    "revoked": (_("revoked"), "danger"),
}


class ApiKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=lambda: [(scope.value, f"{scope.label} ({scope.value})") for scope in Scope],
        label=_("Scopes"),
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("What the key may do."),
    )

    allowed_models = LinesField(
        required=False,
        label=_("Models"),
        help_text=_(
            "The models that the key may call directly, one per line: openai/gpt-4o-mini, or openai for all models of a"
            " provider. Empty: all models, or none if the key may use only some chatbots."
        ),
    )

    class Meta:
        model = ApiKey
        fields = ["name", "scopes", "is_bound", "chatbots", "allowed_models", "expires_on"]

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        if cleaned.get("chatbots"):
            cleaned["is_bound"] = True
        elif cleaned.get("is_bound"):
            self.add_error("chatbots", _("Choose the chatbots that the key may use."))
        return cleaned


@admin.register(ApiKey)
class ApiKeyAdmin(ConfirmedChanges, ModelAdmin):
    """API keys. A key is shown once, when it is created. A revoked key stays listed, because usage refers to it."""

    menu = [
        MenuItem(Section.ACCESS, 1, "key", _("API keys")),
        MenuItem(Section.ACCESS, 2, "description", _("API documentation"), "docs", lambda model_admin, request: True),
    ]
    form = ApiKeyForm
    add_fieldsets = [(None, {"fields": ["name", "scopes", "is_bound", "chatbots", "allowed_models", "expires_on"]})]
    fieldsets = [
        (None, {"fields": ["name", "scopes", "is_bound", "chatbots", "allowed_models", "expires_on"]}),
        (_("State"), {"fields": ["ends_with", "state_text", "last_used_on", "created_at", "revoked_at"]}),
    ]
    readonly_fields = ["ends_with", "state_text", "last_used_on", "created_at", "revoked_at"]
    autocomplete_fields = ["chatbots"]
    list_display = ["name", "ends_with", "may", "last_used_on", "expires_on", "state"]
    search_fields = ["name", "ending"]
    actions = ["revoke"]

    @admin.display(description=_("ends with"), ordering="ending")
    def ends_with(self, key: ApiKey) -> str:
        return f"…{key.ending}"

    @display(description=_("may"), label=True)
    def may(self, key: ApiKey) -> list[str]:
        return [gettext("everything")] if set(key.scopes) == set(Scope.values) else key.scopes

    @display(description=_("state"), label={state: color for state, (_label, color) in STATES.items()})
    def state(self, key: ApiKey) -> tuple[str, str]:
        state = "revoked" if key.revoked_at else "active" if key.is_active else "expired"
        return state, str(STATES[state][0])

    @admin.display(description=_("state"))
    def state_text(self, key: ApiKey) -> str:
        return self.state(key)[1]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        revoked = isinstance(obj, ApiKey) and obj.revoked_at is not None
        return not revoked and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, key: ApiKey, form: forms.ModelForm, change: bool) -> None:
        if change:
            # Save only the changed fields, so that a key that another request revoked meanwhile stays revoked.
            key.save(update_fields=["is_bound", *(name for name in form.changed_data if name != "chatbots")])
        else:
            request.new_api_key = key.issue()  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, key: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the key in this response, because a message after a redirect would store it in a cookie."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("New API key"),
            "opts": self.opts,
            "object": key,
            "api_key": request.new_api_key,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/puffer/apikey/issued.html", context)

    @action(description=_("Revoke the selected keys"), permissions=["change"])
    @recently_confirmed
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> HttpResponse | None:
        keys = keys.filter(revoked_at=None)
        if not keys:
            messages.info(request, _("The selected keys are already revoked."))
            return None
        if "confirmed" not in request.POST:
            context = {
                **self.admin_site.each_context(request),
                "title": _("Revoke API keys"),
                "opts": self.opts,
                "keys": keys,
            }
            return TemplateResponse(request, "admin/puffer/apikey/revoke.html", context)
        for key in keys:
            key.revoke()
            self.log_change(request, key, "Revoked.")
        messages.success(request, gettext("Revoked: %(names)s.") % {"names": ", ".join(key.name for key in keys)})
        return None
