"""Vector stores in the admin: credentials, and a button to test the connection."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from providers.run_async import run_async
from puffer.admin import CredentialsAdmin, CredentialsForm, MenuItem, Section, connection_test
from puffer.api import ApiError
from vectorstores.base import VectorStore
from vectorstores.check_connection import list_targets
from vectorstores.models import Collection, StoreConfig
from vectorstores.registry import STORES, settings_of

MAX_NAMES = 10  # collections that a message names


def store_of(row: StoreConfig | Collection) -> type[VectorStore]:
    return STORES[row.slug if isinstance(row, StoreConfig) else row.store]


class StoreConfigForm(CredentialsForm):
    class Meta:
        model = StoreConfig
        fields = ["api_key", "base_url", "tenant", "database"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "base_url" in self.fields:
            default = self.instance.environment.get("base_url") or store_of(self.instance).default_base_url
            self.fields["base_url"].help_text = (
                _("Leave empty to use %(url)s.") % {"url": default}
                if default
                else _("The URL of the server, with its port.")
            )


@admin.register(StoreConfig)
class StoreConfigAdmin(CredentialsAdmin):
    menu = [MenuItem(Section.KNOWLEDGE, 5, "database")]
    form = StoreConfigForm
    list_display = ["label", "is_configured", "state", "effective_base_url"]
    actions_detail = ["test_connection"]
    actions_row = ["test_connection"]
    readonly_fields = ["explained", "effective_base_url"]

    def get_fieldsets(self, request: HttpRequest, obj: StoreConfig | None = None) -> list[Any]:
        assert obj is not None  # there is no page to add one
        fieldsets: list[Any] = [(store_of(obj).label, {"fields": self.access_fields(request, obj)})]
        if obj.slug == "chroma":
            fieldsets.append((gettext_lazy("Location of the collections"), {"fields": ["tenant", "database"]}))
        return fieldsets

    @admin.display(description=gettext_lazy("store"), ordering="id")
    def label(self, config: StoreConfig) -> str:
        return store_of(config).label

    def needs_api_key(self, config: StoreConfig) -> bool:
        return store_of(config).needs_api_key

    def refusal(self, config: StoreConfig) -> str:
        try:
            store_of(config)(settings_of(config))
        except ApiError as error:
            return error.message
        return ""

    @admin.display(description=gettext_lazy("configured"), boolean=True)
    def is_configured(self, config: StoreConfig) -> bool:
        return not self.refusal(config)

    @admin.display(description=gettext_lazy("base URL in use"))
    def effective_base_url(self, config: StoreConfig) -> str:
        return settings_of(config).base_url

    def has_test_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Also allow the test to users who may add content but not change the settings of stores."""
        return self.has_change_permission(request) or request.user.has_perm("vectorstores.change_collection")

    @connection_test(gettext_lazy("Lists the collections in the store, using the saved settings."), "test")
    def test_connection(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        config = self.saved(request, object_id)
        try:
            names = run_async(lambda: list_targets(config))
        except ApiError as error:
            messages.error(request, _("Connection failed: %(error)s") % {"error": error.message})
        else:
            messages.success(
                request, _("Connected to %(store)s.") % {"store": store_of(config).label} + " " + listed(names)
            )
        return self.page_of(config)


def listed(names: Sequence[str]) -> str:
    if not names:
        return _("It has no collections yet.")
    shown = ", ".join(name[:100] for name in names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        shown = _("%(names)s and %(count)d more") % {"names": shown, "count": len(names) - MAX_NAMES}
    text = ngettext("%(count)d collection: %(names)s.", "%(count)d collections: %(names)s.", len(names))
    return text % {"count": len(names), "names": shown}
