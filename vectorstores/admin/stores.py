"""Vector stores in the admin: credentials, and the button that tests the connection."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action

from providers.run_async import run_async
from puffer.admin import CredentialsAdmin, CredentialsForm
from puffer.api import ApiError
from vectorstores.base import VectorStore
from vectorstores.check_connection import list_targets
from vectorstores.models import Collection, StoreConfig
from vectorstores.registry import STORES, settings_of

MAX_NAMES = 10  # of a store's collections, in a message


def store_of(row: StoreConfig | Collection) -> type[VectorStore]:
    return STORES[row.slug if isinstance(row, StoreConfig) else row.store]


class StoreConfigForm(CredentialsForm):
    class Meta:
        model = StoreConfig
        fields = ["api_key", "base_url", "tenant", "database"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "base_url" in self.fields:
            own = self.instance.environment.get("base_url") or store_of(self.instance).default_base_url
            self.fields["base_url"].help_text = f"Empty: {own}." if own else "Of the server, with its port."


@admin.register(StoreConfig)
class StoreConfigAdmin(CredentialsAdmin):
    form = StoreConfigForm
    list_display = ["label", "is_configured", "state", "effective_base_url"]
    actions_detail = ["test_connection"]
    actions_row = ["test_connection"]
    readonly_fields = ["explained", "effective_base_url"]

    def get_fieldsets(self, request: HttpRequest, obj: StoreConfig | None = None) -> list[Any]:
        assert obj is not None  # there is no page to add one
        fieldsets: list[Any] = [(store_of(obj).label, {"fields": self.access_fields(request, obj)})]
        if obj.slug == "chroma":
            fieldsets.append(("Where the collections are", {"fields": ["tenant", "database"]}))
        return fieldsets

    @admin.display(description="store", ordering="id")
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

    @admin.display(description="configured", boolean=True)
    def is_configured(self, config: StoreConfig) -> bool:
        return not self.refusal(config)

    @admin.display(description="base URL in use")
    def effective_base_url(self, config: StoreConfig) -> str:
        return settings_of(config).base_url

    def has_test_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Also of those who fill the stores, and may not change how they are reached."""
        return self.has_change_permission(request) or request.user.has_perm("vectorstores.change_collection")

    @action(
        description="Test connection",
        icon="network_check",
        permissions=["test"],
        dialog={
            "title": "Test the connection",
            "description": "The store is asked for its collections, with the settings that are saved.",
            "form_class": None,
            "form_submit_text": "Test",
        },
    )
    def test_connection(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        config = self.saved(request, object_id)
        try:
            names = run_async(lambda: list_targets(config))
        except ApiError as error:
            messages.error(request, f"It does not work. {error.message}")
        else:
            messages.success(request, f"{store_of(config).label} answered. {listed(names)}")
        return self.page_of(config)


def listed(names: Sequence[str]) -> str:
    if not names:
        return "It has no collections yet."
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"Collections: {len(names)} ({', '.join(name[:100] for name in names[:MAX_NAMES])}{more})."
