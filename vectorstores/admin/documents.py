"""Documents in the admin: list, read, edit and delete them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.core.paginator import Paginator
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import action, display

from logs.conversations import questions_that_found
from providers.run_async import run_async
from puffer.admin import DialogActions, MenuItem, ReadOnlyAdmin, Section, dialog
from puffer.api import ApiError
from vectorstores.admin.document_form import DocumentForm
from vectorstores.admin.stores import store_of
from vectorstores.check_connection import read_document
from vectorstores.documents.delete import Failure, delete_vectors
from vectorstores.documents.edit import MAX_EDITED, edit, embed_again
from vectorstores.documents.stored import StoredDocument
from vectorstores.ingestion.documents import DEFAULT_SOURCE
from vectorstores.models import Document, Upload
from vectorstores.retrieval import is_web_address
from vectorstores.sources.uploaded import FILE_PREFIX, TYPED

MAX_DELETED = 5000  # documents; the confirmation page lists each
MAX_CELL = 300  # characters of a text in a list
MAX_SHOWN = 100_000  # characters of a document's text on its page
CHUNKS_ON_A_PAGE = 20
DAYS = 30  # of questions


@admin.register(Document)
class DocumentAdmin(DialogActions, ReadOnlyAdmin):
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
        (None, {"fields": ["title", ("known_as", "added_with"), ("collection_link", "namespace"), "source_link"]}),
        (gettext_lazy("State"), {"fields": [("status", "chunks"), "error", ("created_at", "updated_at")]}),
    ]
    change_form_outer_after_template = "admin/vectorstores/document/content.html"
    actions = ["delete_selected"]
    actions_detail = ["edit_document", "embed_again", "download_text"]
    deleted_with = {gettext_lazy("chunks"): Sum("chunks", default=0)}

    class Media:
        css = {"all": ["vectorstores/documents.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Document]:
        return super().get_queryset(request).select_related("collection")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        plain = ["title", "namespace", "status", "chunks", "error", "created_at", "updated_at"]
        return [*plain, "known_as", "added_with", "collection_link", "source_link"]

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

    @admin.display(description=gettext_lazy("added with"))
    def added_with(self, document: Document) -> str:
        if not document.origin:
            return _("the API")
        if document.origin.startswith(FILE_PREFIX):
            return _("an uploaded file: %(name)s") % {"name": document.origin.removeprefix(FILE_PREFIX)}
        if document.origin in TYPED:
            return _("a form of the admin")
        return _("an import of %(origin)s") % {"origin": document.origin}

    # The page of a document

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show what the store has of the document, who uses it, and which questions found it."""
        document = self.get_object(request, unquote(object_id))
        context = extra_context or {}
        if document and self.has_view_permission(request, document):
            stored, context["problem"] = self.read(document)
            context |= content_of(document, stored, request.GET.get("p")) if stored else {}
            context |= {"original_document": document, "days": DAYS}
            if request.user.has_perm("logs.view_conversation"):
                context["questions"] = questions_that_found(*place_of(document), document.parent_vector_id, DAYS)
        return super().change_view(request, object_id, form_url, context)

    def read(self, document: Document) -> tuple[StoredDocument | None, str]:
        """Return what the store has, and why it cannot be read, or ""."""
        try:
            return run_async(lambda: read_document(document)), ""
        except ApiError as error:
            return None, error.message

    def has_edit_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request, obj) and request.user.has_perm("vectorstores.change_document")

    @action(description=gettext_lazy("Edit"), icon="edit", url_path="edit", permissions=["edit"])
    def edit_document(self, request: HttpRequest, object_id: str) -> HttpResponse:
        document = self.saved(request, object_id)
        form: DocumentForm | None = None
        problem = ""
        if request.method == "POST":
            form = DocumentForm(request.POST, document=document)
            if form.is_valid():
                edited, version = form.edited, form.cleaned_data["version"]
                try:
                    run_async(lambda: edit(document, edited, version))
                except ApiError as error:
                    problem = _("The document was not saved. %(reason)s") % {"reason": error.message}
                    self.keep_version(form, document, version)
                else:
                    self.log_change(request, document, "Edited.")
                    messages.success(request, _("Saved and indexed. Chatbots use the new version from now on."))
                    return HttpResponseRedirect(self.url_of(document))
        else:
            stored, problem = self.read(document)
            if stored and len(stored.text) > MAX_EDITED:
                problem = _("The document is too long to be edited here. Change its source and import it again.")
            elif stored:
                form = DocumentForm.of(document, stored)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "object": document,
            "title": _("Edit document"),
            "form": form,
            "problem": problem,
            "note": note_on_edits(document) if form else "",
            "back": self.url_of(document),
        }
        return TemplateResponse(request, "admin/vectorstores/document/edit.html", context)

    def keep_version(self, form: DocumentForm, document: Document, version: str) -> None:
        """Let the user try again after a failure that only recorded itself, such as that of a store."""
        before = document.version
        document = Document.objects.filter(pk=document.pk).first() or document
        if version == before and document.status == Document.Status.FAILED:
            form.data = form.data.copy()  # type: ignore[attr-defined]
            form.data["version"] = document.version  # type: ignore[index]

    @action(
        description=gettext_lazy("Embed again"),
        icon="refresh",
        url_path="embed-again",
        permissions=["edit"],
        dialog=dialog(
            gettext_lazy("Embed the document again?"),
            gettext_lazy(
                "Its chunks are sent to the embedding model again, at the model's usual price. "
                "The old version stays until that has succeeded."
            ),
            gettext_lazy("Embed again"),
        ),
    )
    def embed_again(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        document = self.saved(request, object_id)
        try:
            run_async(lambda: embed_again(document))
        except ApiError as error:
            messages.error(request, _("The document was not embedded again. %(reason)s") % {"reason": error.message})
        else:
            self.log_change(request, document, "Embedded again.")
            messages.success(request, _("The document was embedded again."))
        return self.page_of(document)

    def has_download_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request, obj)

    @action(description=gettext_lazy("Download text"), icon="download", url_path="text", permissions=["download"])
    def download_text(self, request: HttpRequest, object_id: str) -> HttpResponse:
        document = self.saved(request, object_id)
        stored, problem = self.read(document)
        if stored is None:
            messages.error(request, problem)
            return HttpResponseRedirect(self.url_of(document))
        return HttpResponse(
            stored.text,
            content_type="text/plain; charset=utf-8",
            headers={"Content-Disposition": content_disposition_header(True, f"{document.parent_vector_id}.txt")},
        )

    def url_of(self, document: Document) -> str:
        return reverse("admin:vectorstores_document_change", args=[document.pk])

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
        show_failures(request, failures)
        return deleted

    def deletion_line(self, document: Document) -> str:
        names = {"document": document, "collection": self.in_collection(document)}
        return _("%(document)s in %(collection)s, with its vectors") % names


def show_failures(request: HttpRequest, failures: Sequence[Failure]) -> None:
    for failure in failures:
        text = ngettext(
            "%(place)s: %(count)d document was not deleted. %(reason)s",
            "%(place)s: %(count)d documents were not deleted. %(reason)s",
            failure.count,
        )
        messages.error(request, text % asdict(failure))


def content_of(document: Document, stored: StoredDocument, page: str | None) -> dict[str, Any]:
    """Return the context of content.html."""
    warnings = []
    if not stored.vectors:
        warnings.append(_("The store has nothing of this document. Import or upload it again, or delete it."))
    elif not stored.is_complete:
        warnings.append(_("The store has chunks of two versions of this document, because storing it was interrupted."))
    own = {name: value for name, value in stored.metadata.items() if (name, value) != ("source", DEFAULT_SOURCE)}
    metadata = [(name, listed(value)) for name, value in sorted(own.items()) if name != "title"]
    return {
        "stored": stored,
        "warnings": warnings,
        "metadata": metadata,
        "links": [value for _name, value in metadata if is_web_address(value)],
        "shown_text": stored.text[:MAX_SHOWN],
        "chunks": Paginator(stored.vectors, CHUNKS_ON_A_PAGE).get_page(page),
        "is_uploaded_file": document.origin.startswith(FILE_PREFIX),
        "upload": upload_with_file(document),
    }


def upload_with_file(document: Document) -> Upload | None:
    """Return the upload whose file the document is from, as long as the file is kept."""
    return Upload.objects.filter(
        kind=Upload.Kind.FILE,
        name=document.origin.removeprefix(FILE_PREFIX),
        store=document.collection.store,
        target=document.collection.name,
        content__isnull=False,
    ).first()


def listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def place_of(document: Document) -> tuple[str, str, str | None]:
    """Return the store, the collection and the namespace (None: the store has none), as logged passages name them."""
    store = store_of(document.collection)
    return store.slug, document.collection.name, document.namespace if store.has_namespaces else None


def note_on_edits(document: Document) -> str:
    """Return what may undo an edit; "" if nothing does."""
    if document.origin in TYPED:
        return ""
    if not document.origin:
        return _("This text came through the API. The next call with the same id replaces what you change here.")
    return _("This text was imported. What you change here stays until its source changes; then an import replaces it.")


def on_one_line(text: str, width: int) -> str:
    """Return a cell of at most `width` rem, with the whole text as its tooltip."""
    return text and format_html(
        '<span style="display: block; max-width: {}rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap"'
        ' title="{}">{}</span>',
        width, text[:MAX_CELL], text[:MAX_CELL],
    )  # fmt: skip
