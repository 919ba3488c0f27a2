"""The pages of sources in the admin: how each was read last, and what is stored of it."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy
from unfold.decorators import display

from puffer.admin import RecordAdmin
from vectorstores.admin.documents import on_one_line
from vectorstores.models import Source, SourcePage
from vectorstores.retrieval import is_web_address

COLORS = {
    "found": "info",
    "stored": "success",
    "variant": "info",
    "left_out": "info",
    "failed": "danger",
    "vanished": "warning",
    "removing": "warning",
}


@admin.register(SourcePage)
class SourcePageAdmin(RecordAdmin):
    """Pages of sources, with the permissions of sources."""

    where_from = gettext_lazy("The pages of sources, and how they were read last.")
    list_display = ["short_address", "state_label", "outcome", "documents", "changed_at", "checked_at", "short_reason"]
    list_filter = ["state", "outcome", ("source", admin.RelatedOnlyFieldListFilter)]
    search_fields = ["address"]
    fieldsets = [
        (None, {"fields": ["address_link", "source_link", ("state_text", "outcome"), "error", "documents_link"]}),
        (gettext_lazy("Time"), {"fields": [("checked_at", "changed_at")]}),
    ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("vectorstores.view_source")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        computed = ["address_link", "source_link", "state_text", "documents_link"]
        return [*computed, "outcome", "error", "checked_at", "changed_at"]

    @admin.display(description=gettext_lazy("address"), ordering="address")
    def short_address(self, page: SourcePage) -> str:
        return on_one_line(page.address, 20)

    @admin.display(description=gettext_lazy("address"))
    def address_link(self, page: SourcePage) -> str:
        return linked(page.address)

    @admin.display(description=gettext_lazy("source"))
    def source_link(self, page: SourcePage) -> str:
        url = reverse("admin:vectorstores_source_change", args=[page.source_id])
        return format_html('<a class="text-link" href="{}">{}</a>', url, page.source)

    @display(description=gettext_lazy("state"), ordering="state", label=COLORS)
    def state_label(self, page: SourcePage) -> tuple[str, str]:
        return page.state, page.get_state_display()

    @admin.display(description=gettext_lazy("state"))
    def state_text(self, page: SourcePage) -> str:
        return page.get_state_display()

    @admin.display(description=gettext_lazy("reason"), ordering="error")
    def short_reason(self, page: SourcePage) -> str:
        return on_one_line(page.error, 12)

    @admin.display(description=gettext_lazy("documents"))
    def documents_link(self, page: SourcePage) -> str:
        url = reverse("admin:vectorstores_document_changelist", query={"page__id__exact": page.pk})
        return format_html('<a class="text-link" href="{}">{}</a>', url, page.documents)


def linked(address: str) -> str:
    if not is_web_address(address):
        return address
    return format_html(
        '<a class="text-link" href="{0}" rel="nofollow noopener noreferrer" target="_blank">{0}</a>', address
    )


def pages_url(source: Source, **query: Any) -> str:
    return reverse("admin:vectorstores_sourcepage_changelist", query={"source__id__exact": source.pk, **query})


def cells_of(page: SourcePage) -> dict[str, Any]:
    """Return what the list on a source's page shows of a page."""
    return {"page": page, "address": linked(page.address), "color": COLORS[page.state]}
