"""Knowledge: where the stores are, what is in them, and a page to try a question out."""

import time
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from logs.admin import ReadOnlyAdmin
from logs.provider_names import provider_name
from providers.connection import on_event_loop
from puffer.api.errors import ApiError
from puffer.credentials import CredentialsAdmin, CredentialsForm
from vectorstores import admin_uploads as admin_uploads  # registers its pages
from vectorstores.base import VectorStore
from vectorstores.connection import describe, list_targets, look_up
from vectorstores.deletion import delete_vectors
from vectorstores.models import Collection, Document, StoreConfig
from vectorstores.registry import STORES, settings_of
from vectorstores.retrieve import Knowledge, is_web_address, least_cosine

MAX_NAMES = 10  # of a store's collections, in a message
MAX_DELETED = 5000  # documents; the page that asks for confirmation names each
MAX_CELL = 300  # characters of a text in a list, as far as they fit


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
            names = on_event_loop(lambda: list_targets(config))
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


class QuestionForm(forms.Form):
    question = forms.CharField(max_length=10_000, widget=UnfoldAdminTextareaWidget({"rows": 2, "autofocus": True}))
    top_k = forms.IntegerField(
        label="Passages at most", min_value=1, max_value=50, initial=5, widget=UnfoldAdminIntegerFieldWidget
    )
    threshold = forms.IntegerField(
        label="Threshold in percent",
        min_value=0,
        max_value=100,
        initial=20,
        help_text="As a chatbot's confidence threshold.",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    namespace = forms.CharField(
        max_length=200, required=False, help_text="Empty: the default one.", widget=UnfoldAdminTextInputWidget
    )

    def __init__(self, *args: Any, collection: Collection) -> None:
        super().__init__(*args)
        if not store_of(collection).has_namespaces:
            del self.fields["namespace"]


@admin.register(Collection)
class CollectionAdmin(ReadOnlyAdmin):
    """Collections come from imports, uploads and upserts."""

    where_from = "The first one comes with content: added here, imported by a command, or upserted through the API."

    list_display = ["name", "shown_store", "dimension", "embedding", "document_count", "created_at"]
    list_filter = [("store", admin.AllValuesFieldListFilter)]
    search_fields = ["name", "embedding_model"]
    fieldsets = [
        (None, {"fields": [("name", "shown_store"), ("embedding", "dimension"), ("document_count", "created_at")]}),
    ]
    change_form_before_template = "admin/vectorstores/collection/in_store.html"
    actions_list = ["add_content"]
    actions_detail = ["add_content_here", "try_question"]
    actions_row = ["add_content_here", "try_question"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Collection]:
        of_the_collection = Document.objects.filter(collection=OuterRef("pk")).order_by().values("collection")
        count = Subquery(of_the_collection.annotate(count=Count("pk")).values("count"))
        return super().get_queryset(request).annotate(count=Coalesce(count, 0))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["name", "shown_store", "embedding", "dimension", "document_count", "created_at"]

    def name_of(self, collection: Collection) -> str:
        return f"{collection.name} ({store_of(collection).label})"

    @admin.display(description="store", ordering="store")
    def shown_store(self, collection: Collection) -> str:
        return store_of(collection).label

    @admin.display(description="embedding model", ordering="embedding_model")
    def embedding(self, collection: Collection) -> str:
        if not collection.embedding_model:
            return ""
        return f"{provider_name(collection.embedding_provider)}, {collection.embedding_model}"

    @admin.display(description="documents", ordering="count")
    def document_count(self, collection: Any) -> str:
        url = reverse("admin:vectorstores_document_changelist", query={"collection__id__exact": collection.pk})
        return format_html('<a class="text-link" href="{}">{}</a>', url, collection.count)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With what the store tells now."""
        collection = self.get_object(request, unquote(object_id))
        context = extra_context or {}
        if collection and self.has_view_permission(request, collection):
            context["store"] = store_of(collection).label
            try:
                context["in_store"] = on_event_loop(lambda: describe(collection))
            except ApiError as error:
                context["error"] = error.message
        return super().change_view(request, object_id, form_url, context)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """The collections alone: what goes with them may be too much for a page. And what does not go with them."""
        counts = {"collections": len(objs), "documents": sum(collection.count for collection in objs)}
        lacking = set() if request.user.has_perm("vectorstores.delete_document") else {"documents"}
        return [fate_of(collection) for collection in objs], counts, lacking, []

    def has_content_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("vectorstores.add_document")

    @action(description="Add content", icon="upload_file", url_path="add-content", permissions=["content"])
    def add_content(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:vectorstores_upload_add"))

    @action(description="Add content", icon="upload_file", url_path="add-content-here", permissions=["content"])
    def add_content_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:vectorstores_upload_add", query={"collection": object_id}))

    def has_try_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Of those who may change collections: nobody does so here, but a question costs an embedding."""
        return request.user.has_perm("vectorstores.change_collection")

    @action(description="Try a question", icon="quiz", url_path="try", permissions=["try"])
    def try_question(self, request: HttpRequest, object_id: str) -> HttpResponse:
        collection = self.get_object(request, object_id)
        if collection is None:
            raise Http404
        form = QuestionForm(request.POST if request.method == "POST" else None, collection=collection)
        context: dict[str, Any] = {"form": form, "object": collection}
        if not collection.embedding_model:
            context["error"] = "It is not known with which model it was filled, so no question can be looked up."
        elif form.is_valid():
            asked = form.cleaned_data
            knowledge = Knowledge(
                store=collection.store,
                collections=[collection.name],
                embedding_provider=collection.embedding_provider,
                embedding_model=collection.embedding_model,
                namespace=asked.get("namespace", ""),
                top_k=asked["top_k"],
                threshold=asked["threshold"],
            )
            started = time.perf_counter()
            try:
                context["passages"] = on_event_loop(lambda: look_up(asked["question"], knowledge)).passages
            except ApiError as error:
                context["error"] = error.message
            context["milliseconds"] = round((time.perf_counter() - started) * 1000)
            context["least"] = least_cosine(knowledge.embedding_model, knowledge.threshold)
        context |= {**self.admin_site.each_context(request), "opts": self.opts, "title": "Try a question"}
        return TemplateResponse(request, "admin/vectorstores/collection/try_question.html", context)


def fate_of(collection: Any) -> str:
    """What is deleted with a collection, and what is not."""
    store = store_of(collection)
    if store.in_database:
        return f"{collection.name} ({store.label}) with its documents and all its vectors"
    return (
        f"{collection.name} ({store.label}): only what is known of it here. {store.label} keeps the collection and its "
        "vectors; delete the documents first if their vectors must go."
    )


@admin.register(Document)
class DocumentAdmin(ReadOnlyAdmin):
    """Documents come from imports, uploads and upserts. They are deleted here, and their vectors with them."""

    where_from = "They come with content that is added here, imported by a command, or upserted through the API."
    list_display = [
        *("short_title", "in_collection", "shown_status", "chunks", "updated_at"),
        *("short_source", "short_error"),
    ]
    list_select_related = ["collection"]
    list_filter = [("collection", admin.RelatedOnlyFieldListFilter), "status"]
    list_per_page = 50
    search_fields = ["title", "source", "parent_vector_id"]
    search_help_text = "In titles, sources and ids"
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["title", "known_as", ("collection_link", "namespace"), "source_link", "origin"]}),
        ("State", {"fields": [("shown_status", "chunks"), "error", ("created_at", "updated_at")]}),
    ]
    actions = ["delete_selected"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Document]:
        return super().get_queryset(request).select_related("collection")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        plain = ["title", "namespace", "origin", "chunks", "error", "created_at", "updated_at"]
        return [*plain, "known_as", "collection_link", "source_link", "shown_status"]

    @admin.display(description="title", ordering="title")
    def short_title(self, document: Document) -> str:
        return on_one_line(str(document), 14)

    @admin.display(description="id", ordering="parent_vector_id")
    def known_as(self, document: Document) -> str:
        return document.parent_vector_id

    @admin.display(description="collection", ordering="collection")
    def in_collection(self, document: Document) -> str:
        return f"{document.collection.name} ({store_of(document.collection).label})"

    @admin.display(description="collection")
    def collection_link(self, document: Document) -> str:
        url = reverse("admin:vectorstores_collection_change", args=[document.collection_id])
        return format_html('<a class="text-link" href="{}">{}</a>', url, self.in_collection(document))

    @admin.display(description="source", ordering="source")
    def short_source(self, document: Document) -> str:
        return on_one_line(document.source, 8)

    @admin.display(description="source")
    def source_link(self, document: Document) -> str:
        if not is_web_address(document.source):
            return document.source
        return format_html(
            '<a class="text-link" href="{0}" rel="nofollow noopener noreferrer" target="_blank">{0}</a>',
            document.source,
        )

    @display(description="status", ordering="status", label={"stored": "success", "failed": "danger"})
    def shown_status(self, document: Document) -> str:
        return document.status

    @admin.display(description="error", ordering="error")
    def short_error(self, document: Document) -> str:
        return on_one_line(document.error, 8)

    # Deleting: the vectors first, and outside of any transaction, for a store may take a minute to answer.

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        document = self.get_object(request, unquote(object_id)) if request.POST else None
        if document and self.has_delete_permission(request, document) and not self.without_vectors(request, [document]):
            return HttpResponseRedirect(reverse("admin:vectorstores_document_change", args=[document.pk]))
        return super().delete_view(request, object_id, extra_context)

    @action(description="Delete selected documents", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, documents: QuerySet[Document]) -> HttpResponse | None:
        if documents.count() > MAX_DELETED:
            messages.error(request, f"At most {MAX_DELETED} documents can be deleted at once.")
            return None
        if request.POST.get("post"):
            gone = self.without_vectors(request, list(documents))
            if not gone:
                return None
            documents = documents.filter(pk__in=[document.pk for document in gone])
        return delete_selected(self, request, documents)

    def without_vectors(self, request: HttpRequest, documents: Sequence[Document]) -> list[Document]:
        """Those whose vectors are gone from their store. Why the others stay is shown."""
        gone, problems = on_event_loop(lambda: delete_vectors(documents))
        for problem in problems:
            messages.error(request, problem)
        return gone

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        counts = {"documents": len(objs), "chunks": sum(document.chunks for document in objs)}
        named = [f"{document} in {self.in_collection(document)}, with its vectors" for document in objs]
        return named, counts, set(), []


def on_one_line(text: str, width: int) -> str:
    """A cell of at most `width` rem; what does not fit is in its tooltip."""
    return text and format_html(
        '<span style="display: block; max-width: {}rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap"'
        ' title="{}">{}</span>',
        width, text[:MAX_CELL], text[:MAX_CELL],
    )  # fmt: skip
