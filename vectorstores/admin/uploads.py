"""Uploads in the admin: add content to a collection, follow its progress, retry and cancel."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms.widgets import Script
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import action

from logs.usage import provider_name
from providers.run_async import run_async
from puffer.admin import MenuItem, ReadOnlyAdmin, Section
from vectorstores.admin.documents import show_failures
from vectorstores.documents import delete_documents
from vectorstores.models import CANCELLED, Collection, Upload, UploadContent
from vectorstores.registry import STORES
from vectorstores.sources.uploaded import answer_item, as_lines, documents_of, origin_of, text_item
from vectorstores.uploads.forms import ContentForm, Kind, PairForms, name_of
from vectorstores.uploads.queue import queue

MAX_NAMED = 10  # uploads that a message names
MAX_NOTES = 2  # next to the counts of an upload
MAX_POLLED = 200  # uploads in one request for progress


@admin.register(Upload)
class UploadAdmin(ReadOnlyAdmin):
    """Uploads, with the permissions of documents."""

    menu = [MenuItem(Section.KNOWLEDGE, 4, "upload_file")]
    where_from = gettext_lazy("Files, texts and questions with answers that are added to a collection.")

    list_display = ["short_name", "collection_name", "progress", "added_by", "created_at"]
    list_select_related = ["added_by"]
    list_filter = ["state", "kind", ("target", admin.AllValuesFieldListFilter)]
    list_per_page = 50
    search_fields = ["name"]
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["progress", ("name", "kind"), ("collection_name", "namespace"), "embedding"]}),
        (gettext_lazy("Result"), {"fields": ["documents_link", "chunks", "refused_rows", "shown_notes"]}),
        (gettext_lazy("Added"), {"fields": [("added_by", "created_at"), "ended_at"]}),
    ]
    actions = ["delete_selected", "retry_selected", "cancel_selected"]

    class Media:
        css = {"all": ["vectorstores/uploads.css"]}
        js = [Script("vectorstores/uploads.js", type="module")]

    # Permissions

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("vectorstores.view_document")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vectorstores.add_document")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("vectorstores.delete_document")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    # List and detail pages

    def get_queryset(self, request: HttpRequest) -> QuerySet[Upload]:
        return Upload.objects.with_has_content().select_related("added_by")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        plain = ["name", "kind", "namespace", "chunks", "added_by", "created_at", "ended_at"]
        return [*plain, "progress", "collection_name", "embedding", "documents_link", "refused_rows", "shown_notes"]

    @admin.display(description=gettext_lazy("name"), ordering="name")
    def short_name(self, upload: Upload) -> str:
        return upload.name[:80]

    @admin.display(description=gettext_lazy("collection"), ordering="target")
    def collection_name(self, upload: Upload) -> str:
        return f"{upload.target} ({STORES[upload.store].label})"

    @admin.display(description=gettext_lazy("embedding model"))
    def embedding(self, upload: Upload) -> str:
        return f"{provider_name(upload.embedding_provider)}, {upload.embedding_model}"

    @admin.display(description=gettext_lazy("progress"), ordering="state")
    def progress(self, upload: Any) -> str:
        return render_to_string("admin/vectorstores/upload/progress.html", {"upload": upload, **progress_of(upload)})

    @admin.display(description=gettext_lazy("documents"))
    def documents_link(self, upload: Upload) -> str:
        collection = Collection.objects.filter(store=upload.store, name=upload.target).first()
        if collection is None:
            return str(upload.documents)
        query = {"collection__id__exact": collection.pk, "origin": origin_of(upload.kind, upload.name)}
        url = reverse("admin:vectorstores_document_changelist", query=query)
        return format_html('<a class="text-link" href="{}">{}</a>', url, upload.documents)

    @admin.display(description=gettext_lazy("refused"))
    def refused_rows(self, upload: Upload) -> str:
        rows = ((refusal["place"], refusal["reason"]) for refusal in upload.refusals)
        listed = format_html_join("", "<li>{}: {}</li>", rows)
        more = upload.refused - len(upload.refusals)
        return format_html(
            "{}<ul>{}</ul>{}", upload.refused, listed, _("And %(count)d more.") % {"count": more} if more > 0 else ""
        )

    @admin.display(description=gettext_lazy("notes"))
    def shown_notes(self, upload: Upload) -> str:
        rows = ((note["place"], note["text"]) for note in upload.notes)
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {}</li>", rows))

    # Deletion, which asks whether the documents are deleted too

    def deletion_line(self, upload: Upload) -> str:
        documents = documents_of(upload).count()
        count = ngettext("%(count)d document", "%(count)d documents", documents) % {"count": documents}
        return _("%(upload)s (%(documents)s)") % {"upload": upload, "documents": count}

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        upload = self.get_object(request, unquote(object_id))
        if upload is None or not self.has_delete_permission(request, upload):
            return super().delete_view(request, object_id, extra_context)
        if not self.delete_documents_too(request, [upload]):
            return HttpResponseRedirect(reverse("admin:vectorstores_upload_change", args=[upload.pk]))
        return super().delete_view(request, object_id, {"documents": documents_of(upload).count()})

    @action(description=gettext_lazy("Delete selected uploads"), permissions=["delete"])
    def delete_selected(self, request: HttpRequest, uploads: QuerySet[Upload]) -> HttpResponse | None:
        if not self.delete_documents_too(request, uploads):
            return None
        response = delete_selected(self, request, uploads)
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            response.context_data["documents"] = sum(documents_of(upload).count() for upload in uploads)
        return response

    def delete_documents_too(self, request: HttpRequest, uploads: Iterable[Upload]) -> bool:
        """Delete the documents if the confirmation page asks for it. Return False, with messages, if that failed."""
        if not request.POST.get("post") or request.POST.get("documents") != "delete":
            return True
        found = [document for upload in uploads for document in documents_of(upload).select_related("collection")]
        documents = list(dict.fromkeys(found))
        failures = run_async(lambda: delete_documents(documents))
        show_failures(request, failures)
        return not failures

    # Adding

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        posted = request.POST if request.method == "POST" else None
        form = ContentForm(posted, request.FILES or None, initial={"collection": request.GET.get("collection")})
        has_pairs = form.kind_chosen == Kind.QUESTIONS
        pairs = PairForms(posted if has_pairs else None, prefix="pairs")
        if posted is not None and form.is_valid() and (not has_pairs or pairs.is_valid()):
            uploads = self.queue(request, form, pairs)
            text = ngettext("%(names)s is queued for indexing.", "%(names)s are queued for indexing.", len(uploads))
            messages.success(request, text % {"names": ", ".join(upload.name[:80] for upload in uploads[:MAX_NAMED])})
            return HttpResponseRedirect(reverse("admin:vectorstores_upload_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Add content"),
            "form": form,
            "pairs": pairs,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/vectorstores/upload/add.html", context)

    def queue(self, request: HttpRequest, form: ContentForm, pairs: Any) -> list[Upload]:
        kind, user = form.cleaned_data["kind"], cast(User, request.user)
        uploads = [
            queue(form.destination, kind, name, data, user, form.options, document_ids)
            for name, data, document_ids in contents_of(form, pairs)
        ]
        for upload in uploads:
            self.log_addition(request, upload, f"Added to {self.collection_name(upload)}.")
        return uploads

    # Requests of the script uploads.js

    def get_urls(self) -> list[URLPattern]:
        pages = [
            ("<int:pk>/original/", self.original_view, "original"),
            ("progress/", self.progress_view, "progress"),
            ("<int:pk>/retry/", self.retry_view, "retry"),
            ("<int:pk>/cancel/", self.cancel_view, "cancel"),
        ]
        urls = [
            path(route, self.admin_site.admin_view(view), name=f"vectorstores_upload_{name}")
            for route, view, name in pages
        ]
        return [*urls, *super().get_urls()]

    def progress_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        ids = [int(pk) for pk in request.GET.getlist("id")[:MAX_POLLED] if pk.isdecimal() and len(pk) < 19]
        may_act = self.has_add_permission(request)
        uploads = self.get_queryset(request).filter(pk__in=ids)
        return JsonResponse({"uploads": {upload.pk: progress_of(upload, may_act) for upload in uploads}})

    def original_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Download the bytes of an upload, as long as they are kept."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        content = UploadContent.objects.filter(upload=pk).select_related("upload").first()
        if content is None:
            raise Http404
        return HttpResponse(
            bytes(content.data),
            content_type="application/octet-stream",
            headers={"Content-Disposition": content_disposition_header(True, content.upload.name)},
        )

    def retry_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self.act(request, pk, self.retry)

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self.act(request, pk, self.cancel)

    def act(self, request: HttpRequest, pk: int, action: Callable[[HttpRequest, Any], bool]) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        upload = self.get_queryset(request).filter(pk=pk).first()
        if upload is None:
            raise Http404
        action(request, upload)
        return JsonResponse(progress_of(self.get_queryset(request).get(pk=pk), True))

    def retry(self, request: HttpRequest, upload: Any) -> bool:
        """Queue the upload again if that is possible, and return whether it was."""
        if not can_retry(upload):
            return False
        upload.retry()
        self.log_change(request, upload, "Queued again.")
        return True

    def cancel(self, request: HttpRequest, upload: Any) -> bool:
        """Cancel the upload if that is possible, and return whether it was."""
        if not can_cancel(upload):
            return False
        upload.cancel()
        self.log_change(request, upload, "Cancelled.")
        return True

    @action(description=gettext_lazy("Try again"), permissions=["add"])
    def retry_selected(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        count = sum(self.retry(request, upload) for upload in uploads)
        text = ngettext("%(count)d upload is queued again.", "%(count)d uploads are queued again.", count)
        messages.success(request, text % {"count": count})

    @action(description=gettext_lazy("Cancel"), permissions=["add"])
    def cancel_selected(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        count = sum(self.cancel(request, upload) for upload in uploads)
        text = ngettext("%(count)d upload was cancelled.", "%(count)d uploads were cancelled.", count)
        messages.success(request, text % {"count": count})


def contents_of(form: ContentForm, pairs: Any) -> Iterator[tuple[str, bytes, list[str]]]:
    """Yield the name, the bytes and, for answers, the document ids of each upload."""
    values = form.cleaned_data
    if values["kind"] == Kind.FILE:
        for file in values["uploads"]:
            yield name_of(file), file.read(), []
    elif values["kind"] == Kind.TEXT:
        yield values["title"], as_lines([text_item(values["title"], values["text"], values["url"])]), []
    else:
        items = [answer_item(pair["question"], pair["answer"]) for pair in pairs.cleaned_data if pair]
        yield f"Questions: {len(items)}", as_lines(items), [item["id"] for item in items]


def can_retry(upload: Any) -> bool:
    """Return whether the upload failed, partly or for now, and its content is still kept."""
    return upload.has_content and not upload.is_running and (upload.attempts > 0 or upload.state == Upload.State.DEAD)


def can_cancel(upload: Upload) -> bool:
    return upload.state == Upload.State.WAITING and not upload.is_cancelled


def progress_of(upload: Any, may_act: bool = False) -> dict[str, Any]:
    """Return the progress of an upload for the list and uploads.js, and which actions are possible."""
    state, status, details, error = status_of(upload)
    return {
        "state": state,
        "status": status,
        "details": details,
        "error": error,
        "done": upload.chunks_done,
        "total": upload.chunks,
        "is_over": upload.state != Upload.State.WAITING,
        "can_retry": may_act and can_retry(upload),
        "can_cancel": may_act and can_cancel(upload),
    }


def status_of(upload: Upload) -> tuple[str, str, str, str]:
    """Return a state for the style sheet, and a status, details and an error for users."""
    if upload.state == Upload.State.DONE:
        if upload.refused:
            return "partial", _("partly stored"), stored_counts(upload), refusal_of(upload)
        return "stored", _("stored"), stored_counts(upload), ""
    if upload.state == Upload.State.DEAD:
        details = stored_counts(upload) if upload.documents else ""
        if upload.last_error == CANCELLED:
            return "cancelled", _("cancelled"), details, ""
        return "failed", _("failed"), details, upload.last_error
    if upload.is_running:
        details = _("Reading the content.")
        if upload.chunks is not None:
            details = _("%(done)d of %(total)d chunks") % {"done": upload.chunks_done, "total": upload.chunks}
        state, status = ("stopping", _("stopping")) if upload.is_cancelled else ("processing", _("processing"))
        return state, status, details, ""
    seconds = (upload.due_at - timezone.now()).total_seconds()
    details = _("Waiting for a worker.")
    if seconds > 0:
        details = _("The next attempt is in %(seconds)d seconds.") % {"seconds": seconds}
    return "waiting", _("waiting"), details, upload.last_error


def stored_counts(upload: Upload) -> str:
    documents = ngettext("%(count)d document", "%(count)d documents", upload.documents) % {"count": upload.documents}
    chunks = ngettext("%(count)d chunk", "%(count)d chunks", upload.chunks_done) % {"count": upload.chunks_done}
    return ". ".join([f"{documents}, {chunks}", *(note["text"] for note in upload.notes[:MAX_NOTES])])


def refusal_of(upload: Upload) -> str:
    count = ngettext("%(count)d row was refused.", "%(count)d rows were refused.", upload.refused)
    first = upload.refusals[0] if upload.refusals else {"place": "", "reason": ""}
    return f"{count % {'count': upload.refused}} {first['place']}: {first['reason']}"
