"""Uploads in the admin: a page to add content to a collection, and how far workers have come with it."""

from collections.abc import Iterator
from typing import Any, cast

from django.contrib import admin, messages
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
from unfold.decorators import action

from logs.usage import provider_name
from puffer.admin import ReadOnlyAdmin
from puffer.text import counted
from vectorstores.models import CANCELLED, Upload
from vectorstores.registry import STORES
from vectorstores.sources.uploaded import answered_questions, origin_of, pasted_text
from vectorstores.uploads.forms import ContentForm, Kind, PairForms, name_of
from vectorstores.uploads.queue import queue

MAX_ASKED = 200  # uploads whose progress a page asks for at once


@admin.register(Upload)
class UploadAdmin(ReadOnlyAdmin):
    """Whoever may see, add or delete documents may do so with uploads."""

    where_from = "Files, texts, and questions with answers that are put into a collection."

    list_display = ["short_name", "collection_name", "progress", "added_by", "created_at"]
    list_select_related = ["added_by"]
    list_filter = ["state", "kind", ("target", admin.AllValuesFieldListFilter)]
    list_per_page = 50
    search_fields = ["name"]
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["progress", ("name", "kind"), ("collection_name", "namespace"), "embedding"]}),
        ("What became of it", {"fields": ["documents_link", "chunks", "refused_rows"]}),
        ("Who and when", {"fields": [("added_by", "created_at"), "ended_at"]}),
    ]
    actions = ["retry_selected", "cancel_selected"]

    class Media:
        css = {"all": ["vectorstores/uploads.css"]}
        js = [Script("vectorstores/uploads.js", type="module")]

    # Who may do what

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("vectorstores.view_document")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vectorstores.add_document")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Of the upload alone. The documents stay."""
        return request.user.has_perm("vectorstores.delete_document")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    # The list and the page of one

    def get_queryset(self, request: HttpRequest) -> QuerySet[Upload]:
        return Upload.objects.with_has_content().select_related("added_by")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        plain = ["name", "kind", "namespace", "chunks", "added_by", "created_at", "ended_at"]
        return [*plain, "progress", "collection_name", "embedding", "documents_link", "refused_rows"]

    @admin.display(description="name", ordering="name")
    def short_name(self, upload: Upload) -> str:
        return upload.name[:80]

    @admin.display(description="collection", ordering="target")
    def collection_name(self, upload: Upload) -> str:
        return f"{upload.target} ({STORES[upload.store].label})"

    @admin.display(description="embedding model")
    def embedding(self, upload: Upload) -> str:
        return f"{provider_name(upload.embedding_provider)}, {upload.embedding_model}"

    @admin.display(description="progress", ordering="state")
    def progress(self, upload: Any) -> str:
        return render_to_string("admin/vectorstores/upload/progress.html", {"upload": upload, **progress_of(upload)})

    @admin.display(description="documents")
    def documents_link(self, upload: Upload) -> str:
        query = {"origin": origin_of(upload.kind, upload.name), "collection__name": upload.target}
        url = reverse("admin:vectorstores_document_changelist", query=query)
        return format_html('<a class="text-link" href="{}">{}</a>', url, upload.documents)

    @admin.display(description="refused")
    def refused_rows(self, upload: Upload) -> str:
        rows = ((refusal["place"], refusal["reason"]) for refusal in upload.refusals)
        listed = format_html_join("", "<li>{}: {}</li>", rows)
        more = upload.refused - len(upload.refusals)
        return format_html("{}<ul>{}</ul>{}", upload.refused, listed, f"And {more} more." if more > 0 else "")

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        return [f"{upload}: the upload alone, its documents stay" for upload in objs], {"uploads": len(objs)}, set(), []

    # Adding

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        posted = request.POST if request.method == "POST" else None
        form = ContentForm(posted, request.FILES or None, initial={"collection": request.GET.get("collection")})
        asks = form.kind_chosen == Kind.QUESTIONS
        pairs = PairForms(posted if asks else None, prefix="pairs")
        if posted is not None and form.is_valid() and (not asks or pairs.is_valid()):
            uploads = self.queue(request, form, pairs)
            messages.success(request, f"To be indexed: {', '.join(upload.name[:80] for upload in uploads[:10])}.")
            return HttpResponseRedirect(reverse("admin:vectorstores_upload_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Add content",
            "form": form,
            "pairs": pairs,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/vectorstores/upload/add.html", context)

    def queue(self, request: HttpRequest, form: ContentForm, pairs: Any) -> list[Upload]:
        kind, user = form.cleaned_data["kind"], cast(User, request.user)
        uploads = [queue(form.destination, kind, name, data, user) for name, data in contents_of(form, pairs)]
        for upload in uploads:
            self.log_addition(request, upload, f"Into {self.collection_name(upload)}.")
        return uploads

    # What the page asks for as it stands there

    def get_urls(self) -> list[URLPattern]:
        pages = [
            ("progress/", self.progress_view, "progress"),
            ("<int:pk>/retry/", self.retry_view, "retry"),
            ("<int:pk>/cancel/", self.cancel_view, "cancel"),
        ]
        own = [
            path(route, self.admin_site.admin_view(view), name=f"vectorstores_upload_{name}")
            for route, view, name in pages
        ]
        return [*own, *super().get_urls()]

    def progress_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        ids = [int(pk) for pk in request.GET.getlist("id")[:MAX_ASKED] if pk.isdecimal() and len(pk) < 19]
        may_act = self.has_add_permission(request)
        uploads = self.get_queryset(request).filter(pk__in=ids)
        return JsonResponse({"uploads": {upload.pk: progress_of(upload, may_act) for upload in uploads}})

    def retry_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self.act(request, pk, self.retry)

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self.act(request, pk, self.cancel)

    def act(self, request: HttpRequest, pk: int, deed: Any) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        upload = self.get_queryset(request).filter(pk=pk).first()
        if upload is None:
            raise Http404
        deed(request, upload)
        return JsonResponse(progress_of(self.get_queryset(request).get(pk=pk), True))

    def retry(self, request: HttpRequest, upload: Any) -> bool:
        """Whether it could be."""
        if not can_retry(upload):
            return False
        upload.retry()
        self.log_change(request, upload, "Tried again.")
        return True

    def cancel(self, request: HttpRequest, upload: Any) -> bool:
        """Whether it could be."""
        if not can_cancel(upload):
            return False
        upload.cancel()
        self.log_change(request, upload, "Cancelled.")
        return True

    @action(description="Try again", permissions=["add"])
    def retry_selected(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        count = sum(self.retry(request, upload) for upload in uploads)
        messages.success(request, f"To be tried again: {count}.")

    @action(description="Cancel", permissions=["add"])
    def cancel_selected(self, request: HttpRequest, uploads: QuerySet[Upload]) -> None:
        count = sum(self.cancel(request, upload) for upload in uploads)
        messages.success(request, f"Cancelled: {count}.")


def contents_of(form: ContentForm, pairs: Any) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each upload."""
    given = form.cleaned_data
    if given["kind"] == Kind.FILE:
        for file in given["uploads"]:
            yield name_of(file), file.read()
    elif given["kind"] == Kind.TEXT:
        yield given["title"], pasted_text(given["title"], given["text"], given["url"])
    else:
        answered = [(pair["question"], pair["answer"]) for pair in pairs.cleaned_data if pair]
        yield f"Questions: {len(answered)}", answered_questions(answered)


def can_retry(upload: Any) -> bool:
    """What has failed, in part or until its next try, and whose content is still here."""
    return upload.has_content and not upload.is_running and (upload.attempts > 0 or upload.state == Upload.State.DEAD)


def can_cancel(upload: Upload) -> bool:
    return upload.state == Upload.State.WAITING and not upload.is_cancelled


def progress_of(upload: Any, may_act: bool = False) -> dict[str, Any]:
    """For the list and for its script: a word for the state, what is told of it, and what may be done with it."""
    status, words, error = words_for(upload)
    return {
        "status": status,
        "words": words,
        "error": error,
        "done": upload.chunks_done,
        "of": upload.chunks,
        "is_over": upload.state != Upload.State.WAITING,
        "can_retry": may_act and can_retry(upload),
        "can_cancel": may_act and can_cancel(upload),
    }


def words_for(upload: Upload) -> tuple[str, str, str]:
    stored = f"{counted(upload.documents, 'document')}, {counted(upload.chunks_done, 'chunk')}"
    first = upload.refusals[0] if upload.refusals else {}
    refused = f"{upload.refused} refused. {first['place']}: {first['reason']}" if first else ""
    if upload.state == Upload.State.DONE:
        return "stored in part" if upload.refused else "stored", stored, refused
    if upload.state == Upload.State.DEAD:
        status = "cancelled" if upload.last_error == CANCELLED else "failed"
        return status, stored if upload.documents else "", "" if status == "cancelled" else upload.last_error
    if upload.is_running:
        read = f"{upload.chunks_done} of {upload.chunks} chunks" if upload.chunks is not None else "It is being read."
        return "stopping" if upload.is_cancelled else "at work", read, ""
    seconds = (upload.due_at - timezone.now()).total_seconds()
    if seconds > 0:
        return "waiting", f"The next try is in {seconds:.0f} seconds.", upload.last_error
    return "waiting", "It waits for a worker.", upload.last_error
