"""Documents in the admin: list, search and delete them with their vectors."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import action, display

from providers.run_async import run_async
from puffer.admin import MenuItem, ReadOnlyAdmin, Section
from vectorstores.admin.stores import store_of
from vectorstores.ingestion.delete import delete_vectors
from vectorstores.models import Document
from vectorstores.retrieval import is_web_address

MAX_DELETED = 5000  # documents; the confirmation page lists each
MAX_CELL = 300  # characters of a text in a list


@admin.register(Document)
class DocumentAdmin(ReadOnlyAdmin):
    """Documents come from imports, uploads and upserts. Deleting them here also deletes their vectors."""

    menu = [MenuItem(Section.KNOWLEDGE, 2, "article")]
    where_from = gettext_lazy(
        "Documents appear here when content is added here, imported with a command or upserted through the API."
    )
    list_display = [
        *("short_title", "in_collection", "shown_status", "chunks", "updated_at"),
        *("short_source", "short_error"),
    ]
    list_select_related = ["collection"]
    list_filter = [("collection", admin.RelatedOnlyFieldListFilter), "status"]
    list_per_page = 50
    search_fields = ["title", "source", "parent_vector_id"]
    search_help_text = gettext_lazy("Search titles, sources and ids")
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["title", "known_as", ("collection_link", "namespace"), "source_link", "origin"]}),
        (gettext_lazy("State"), {"fields": [("status", "chunks"), "error", ("created_at", "updated_at")]}),
    ]
    actions = ["delete_selected"]
    deleted_with = {gettext_lazy("chunks"): Sum("chunks", default=0)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Document]:
        return super().get_queryset(request).select_related("collection")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        plain = ["title", "namespace", "origin", "status", "chunks", "error", "created_at", "updated_at"]
        return [*plain, "known_as", "collection_link", "source_link"]

    @admin.display(description=gettext_lazy("title"), ordering="title")
    def short_title(self, document: Document) -> str:
        return on_one_line(str(document), 14)

    @admin.display(description=gettext_lazy("id"), ordering="parent_vector_id")
    def known_as(self, document: Document) -> str:
        return document.parent_vector_id

    @admin.display(description=gettext_lazy("collection"), ordering="collection")
    def in_collection(self, document: Document) -> str:
        return f"{document.collection.name} ({store_of(document.collection).label})"

    @admin.display(description=gettext_lazy("collection"))
    def collection_link(self, document: Document) -> str:
        url = reverse("admin:vectorstores_collection_change", args=[document.collection_id])
        return format_html('<a class="text-link" href="{}">{}</a>', url, self.in_collection(document))

    @admin.display(description=gettext_lazy("source"), ordering="source")
    def short_source(self, document: Document) -> str:
        return on_one_line(document.source, 8)

    @admin.display(description=gettext_lazy("source"))
    def source_link(self, document: Document) -> str:
        if not is_web_address(document.source):
            return document.source
        return format_html(
            '<a class="text-link" href="{0}" rel="nofollow noopener noreferrer" target="_blank">{0}</a>',
            document.source,
        )

    @display(description=gettext_lazy("status"), ordering="status", label={"stored": "success", "failed": "danger"})
    def shown_status(self, document: Document) -> tuple[str, str]:
        return document.status, document.get_status_display()

    @admin.display(description=gettext_lazy("error"), ordering="error")
    def short_error(self, document: Document) -> str:
        return on_one_line(document.error, 8)

    # Deletion: the vectors first, outside of any transaction, because a store may take a minute to respond.

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        document = self.get_object(request, unquote(object_id)) if request.POST else None
        if document and self.has_delete_permission(request, document) and not self.delete_vectors(request, [document]):
            return HttpResponseRedirect(reverse("admin:vectorstores_document_change", args=[document.pk]))
        return super().delete_view(request, object_id, extra_context)

    @action(description=gettext_lazy("Delete selected documents"), permissions=["delete"])
    def delete_selected(self, request: HttpRequest, documents: QuerySet[Document]) -> HttpResponse | None:
        if documents.count() > MAX_DELETED:
            limit = ngettext(
                "At most %(count)d document can be deleted at once.",
                "At most %(count)d documents can be deleted at once.",
                MAX_DELETED,
            )
            messages.error(request, limit % {"count": MAX_DELETED})
            return None
        if request.POST.get("post"):
            deleted = self.delete_vectors(request, list(documents))
            if not deleted:
                return None
            documents = documents.filter(pk__in=[document.pk for document in deleted])
        return delete_selected(self, request, documents)

    def delete_vectors(self, request: HttpRequest, documents: Sequence[Document]) -> list[Document]:
        """Return the documents whose vectors were deleted, and show an error message for the others."""
        deleted, failures = run_async(lambda: delete_vectors(documents))
        for failure in failures:
            text = ngettext(
                "%(place)s: %(count)d document was not deleted. %(reason)s",
                "%(place)s: %(count)d documents were not deleted. %(reason)s",
                failure.count,
            )
            messages.error(request, text % asdict(failure))
        return deleted

    def deletion_line(self, document: Document) -> str:
        names = {"document": document, "collection": self.in_collection(document)}
        return _("%(document)s in %(collection)s, with its vectors") % names


def on_one_line(text: str, width: int) -> str:
    """Return a cell of at most `width` rem, with the whole text as its tooltip."""
    return text and format_html(
        '<span style="display: block; max-width: {}rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap"'
        ' title="{}">{}</span>',
        width, text[:MAX_CELL], text[:MAX_CELL],
    )  # fmt: skip
