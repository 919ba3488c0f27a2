"""Rerankers in the admin: address, key, model and time limit, and a button to test the connection."""

import re
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from providers.run_async import run_async
from puffer.admin import CredentialsAdmin, CredentialsForm, DeletionSummary, MenuItem, Section, connection_test
from puffer.api import ApiError
from vectorstores.check_connection import try_reranker
from vectorstores.models import Reranker
from vectorstores.reranking.client import PATH, refuse_unusable


class RerankerForm(CredentialsForm):
    class Meta:
        model = Reranker
        fields = ["name", "protocol", "base_url", "api_key", "model", "milliseconds", "price"]

    def clean_base_url(self) -> str:
        """Accept an address that was pasted with the path of the call."""
        return re.sub(rf"{PATH}/*$", "", self.cleaned_data["base_url"].strip()).rstrip("/")


@admin.register(Reranker)
class RerankerAdmin(DeletionSummary, CredentialsAdmin):
    """Unlike stores and providers, rerankers are added and deleted."""

    menu = [MenuItem(Section.KNOWLEDGE, 6, "swap_vert")]
    form = RerankerForm
    list_display = ["label", "state", "base_url", "model", "milliseconds"]
    ordering = ["name"]
    search_fields = ["name", "model", "base_url"]
    actions_detail = ["test_connection"]
    actions_row = ["test_connection"]
    readonly_fields = ["explained"]

    def get_fieldsets(self, request: HttpRequest, obj: Reranker | None = None) -> list[Any]:
        access = ["base_url", "api_key"]
        if obj is not None:
            access = [name for name in self.access_fields(request, obj) if name != "effective_base_url"]
        return [
            (None, {"fields": ["name", "protocol", *access, "model"]}),
            (gettext_lazy("Limits and price"), {"fields": ["milliseconds", "price"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Reranker | None = None) -> list[str]:
        fields = list(self.readonly_fields)
        return fields if obj is None else ["name", *fields]

    @admin.display(description=gettext_lazy("name"), ordering="name")
    def label(self, config: Reranker) -> str:
        return config.name

    def needs_api_key(self, config: Reranker) -> bool:
        return False

    def refusal(self, config: Reranker) -> str:
        try:
            refuse_unusable(config)
        except ApiError as error:
            return error.message
        return ""

    def deletion_line(self, reranker: Reranker) -> str:
        return _("%(reranker)s: chatbots that use it keep the order of the search") % {"reranker": reranker}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return ModelAdmin.has_add_permission(self, request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return ModelAdmin.has_delete_permission(self, request, obj)

    @connection_test(gettext_lazy("Has two short texts ordered, using the saved settings."))
    def test_connection(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        reranker = self.saved(request, object_id)
        try:
            milliseconds, is_right = run_async(lambda: try_reranker(reranker))
        except ApiError as error:
            messages.error(request, _("Connection failed: %(error)s") % {"error": error.message})
            return self.page_of(reranker)
        outcome = {"reranker": reranker, "milliseconds": milliseconds, "limit": reranker.milliseconds}
        messages.success(request, _("%(reranker)s answered in %(milliseconds)d ms.") % outcome)
        if milliseconds > reranker.milliseconds:
            text = _("That is more than the time limit of %(limit)d ms: most searches would keep their own order.")
            messages.warning(request, text % outcome)
        if not is_right:
            messages.warning(request, _("It put the wrong one of two texts first. Check the model."))
        return self.page_of(reranker)
