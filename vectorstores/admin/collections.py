"""Collections in the admin: their state in the store, and a page to try a question."""

import shlex
import time
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from logs.usage import provider_name
from providers.run_async import run_async
from puffer.admin import MenuItem, ReadOnlyAdmin, Section
from puffer.api import ApiError
from vectorstores.admin.stores import store_of
from vectorstores.check_connection import describe, look_up
from vectorstores.models import Collection, Document, Source
from vectorstores.retrieval import Knowledge, least_cosine


class QuestionForm(forms.Form):
    question = forms.CharField(
        label=gettext_lazy("Question"),
        max_length=10_000,
        widget=UnfoldAdminTextareaWidget({"rows": 2, "autofocus": True}),
    )
    top_k = forms.IntegerField(
        label=gettext_lazy("Maximum passages"),
        min_value=1,
        max_value=50,
        initial=5,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    threshold = forms.IntegerField(
        label=gettext_lazy("Threshold in percent"),
        min_value=0,
        max_value=100,
        initial=20,
        help_text=gettext_lazy("The same as the confidence threshold of a chatbot."),
        widget=UnfoldAdminIntegerFieldWidget,
    )
    namespace = forms.CharField(
        label=gettext_lazy("Namespace"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("Leave empty for the default namespace."),
        widget=UnfoldAdminTextInputWidget,
    )

    def __init__(self, *args: Any, collection: Collection) -> None:
        super().__init__(*args)
        if not store_of(collection).has_namespaces:
            del self.fields["namespace"]


@admin.register(Collection)
class CollectionAdmin(ReadOnlyAdmin):
    """Collections, which imports, uploads and upserts create."""

    menu = [MenuItem(Section.KNOWLEDGE, 1, "library_books")]
    where_from = gettext_lazy(
        "Collections appear here when content is added here, imported with a command or upserted through the API."
    )

    list_display = ["name", "shown_store", "dimension", "embedding", "document_count", "created_at"]
    list_filter = [("store", admin.AllValuesFieldListFilter)]
    search_fields = ["name", "embedding_model"]
    fieldsets = [
        (None, {"fields": [("name", "shown_store"), ("embedding", "dimension"), ("document_count", "created_at")]}),
        (gettext_lazy("Search by words"), {"fields": ["searches_words", "word_index"]}),
        (gettext_lazy("Kept up to date"), {"fields": ["source_count"]}),
    ]
    change_form_before_template = "admin/vectorstores/collection/in_store.html"
    deleted_with = {gettext_lazy("documents"): Count("documents")}
    delete_permissions = {gettext_lazy("documents"): "vectorstores.delete_document"}
    actions_list = ["add_content"]
    actions_detail = ["add_content_here", "add_source_here", "try_question"]
    actions_row = ["add_content_here", "try_question"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Collection]:
        documents = Document.objects.filter(collection=OuterRef("pk")).order_by().values("collection")
        count = Subquery(documents.annotate(count=Count("pk")).values("count"))
        return super().get_queryset(request).annotate(count=Coalesce(count, 0))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        stored = ["name", "dimension", "created_at"]
        return [*stored, "shown_store", "embedding", "document_count", "word_index", "source_count"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow to change what is no readonly field: whether words are searched."""
        return request.user.has_perm("vectorstores.change_collection")

    def name_of(self, collection: Collection) -> str:
        return f"{collection.name} ({store_of(collection).label})"

    @admin.display(description=gettext_lazy("store"), ordering="store")
    def shown_store(self, collection: Collection) -> str:
        return store_of(collection).label

    @admin.display(description=gettext_lazy("embedding model"), ordering="embedding_model")
    def embedding(self, collection: Collection) -> str:
        if not collection.embedding_model:
            return ""
        return f"{provider_name(collection.embedding_provider)}, {collection.embedding_model}"

    @admin.display(description=gettext_lazy("documents"), ordering="count")
    def document_count(self, collection: Any) -> str:
        url = reverse("admin:vectorstores_document_changelist", query={"collection__id__exact": collection.pk})
        return format_html('<a class="text-link" href="{}">{}</a>', url, collection.count)

    @admin.display(description=gettext_lazy("word index"))
    def word_index(self, collection: Collection) -> str:
        """Return how many chunks are searched by words, and how to apply the setting to the others."""
        if store_of(collection).in_database:
            return _("Always complete")
        indexed = collection.vectors.count()
        stored = collection.documents.aggregate(chunks=Sum("chunks", default=0))["chunks"]
        text = _("%(done)d of %(total)d chunks") % {"done": indexed, "total": max(indexed, stored)}
        if collection.searches_words and (indexed < stored or not stored):
            hint = _("To add the others, run:")
        elif indexed and not collection.searches_words:
            hint = _("To delete their texts, run:")
        else:
            return text
        command = f"manage.py rebuild_word_index --store={collection.store} --collection={shlex.quote(collection.name)}"
        return format_html("{}. {} <code>{}</code>", text, hint, command)

    @admin.display(description=gettext_lazy("sources"))
    def source_count(self, collection: Collection) -> str:
        url = reverse(
            "admin:vectorstores_source_changelist", query={"store": collection.store, "target": collection.name}
        )
        count = Source.objects.into(collection.store, collection.name).count()
        return format_html('<a class="text-link" href="{}">{}</a>', url, count)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the store's current description of the collection."""
        collection = self.get_object(request, unquote(object_id))
        context = extra_context or {}
        if collection and self.has_view_permission(request, collection):
            context["store"] = store_of(collection).label
            try:
                context["in_store"] = run_async(lambda: describe(collection))
            except ApiError as error:
                context["error"] = error.message
        return super().change_view(request, object_id, form_url, context)

    def deletion_line(self, collection: Collection) -> str:
        store = store_of(collection)
        names = {"collection": collection.name, "store": store.label}
        if store.in_database:
            return _("%(collection)s (%(store)s) with its documents and all its vectors") % names
        return (
            _(
                "%(collection)s (%(store)s): only the records and texts here. %(store)s keeps the collection and its "
                "vectors. To delete the vectors too, delete the documents first."
            )
            % names
        )

    def has_content_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("vectorstores.add_document")

    @action(
        description=gettext_lazy("Add content"), icon="upload_file", url_path="add-content", permissions=["content"]
    )
    def add_content(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:vectorstores_upload_add"))

    @action(
        description=gettext_lazy("Add content"),
        icon="upload_file",
        url_path="add-content-here",
        permissions=["content"],
    )
    def add_content_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:vectorstores_upload_add", query={"collection": object_id}))

    def has_source_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("vectorstores.add_source")

    @action(description=gettext_lazy("Add a source"), icon="sync", url_path="add-source-here", permissions=["source"])
    def add_source_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:vectorstores_source_add", query={"collection": object_id}))

    def has_try_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Require the permission to change collections, because each question costs an embedding."""
        return request.user.has_perm("vectorstores.change_collection")

    @action(description=gettext_lazy("Try a question"), icon="quiz", url_path="try", permissions=["try"])
    def try_question(self, request: HttpRequest, object_id: str) -> HttpResponse:
        collection = self.get_object(request, object_id)
        if collection is None:
            raise Http404
        form = QuestionForm(request.POST if request.method == "POST" else None, collection=collection)
        context: dict[str, Any] = {"form": form, "object": collection}
        if not collection.embedding_model:
            context["error"] = _("The embedding model of this collection is unknown, so it cannot be searched.")
        elif form.is_valid():
            values = form.cleaned_data
            knowledge = Knowledge(
                store=collection.store,
                collections=[collection.name],
                embedding_provider=collection.embedding_provider,
                embedding_model=collection.embedding_model,
                namespace=values.get("namespace", ""),
                top_k=values["top_k"],
                threshold=values["threshold"],
            )
            started = time.perf_counter()
            try:
                context["passages"] = run_async(lambda: look_up(values["question"], knowledge)).passages
            except ApiError as error:
                context["error"] = error.message
            context["milliseconds"] = round((time.perf_counter() - started) * 1000)
            context["least"] = least_cosine(knowledge.embedding_model, knowledge.threshold)
        context |= {**self.admin_site.each_context(request), "opts": self.opts, "title": _("Try a question")}
        return TemplateResponse(request, "admin/vectorstores/collection/try_question.html", context)
