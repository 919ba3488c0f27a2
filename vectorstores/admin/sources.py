"""Sources of collections in the admin: add and preview them, refresh them, and look at their pages."""

from dataclasses import asdict
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.db.models import Case, When
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from logs.usage import provider_name
from providers.run_async import run_async
from puffer.admin import DeletionSummary, DialogActions, MenuItem, Section, dialog
from vectorstores.admin.documents import on_one_line, show_failures
from vectorstores.admin.source_pages import cells_of, linked, pages_url
from vectorstores.documents import delete_documents
from vectorstores.models import Collection, Document, Source, SourcePage
from vectorstores.refresh.forms import SourceForm
from vectorstores.refresh.status import COLORS, OUTCOMES, STATES, counts_of, state_of
from vectorstores.registry import STORES

SHOWN_PAGES = 20
PROBLEMS_FIRST = Case(When(state__in=[SourcePage.State.VANISHED, SourcePage.State.FAILED], then=0), default=1)


@admin.register(Source)
class SourceAdmin(DialogActions, DeletionSummary, ModelAdmin):
    """Sources: their settings, their latest run and the first of their pages."""

    menu = [MenuItem(Section.KNOWLEDGE, 3, "sync")]
    where_from = gettext_lazy(
        "Add a web page, a website or a feed. Its pages are stored in a collection, and read again on a schedule."
    )
    list_display = ["short_address", "kind", "collection_name", "state_label", "result", "last_run", "next_run"]
    list_filter = ["kind", "schedule", ("target", admin.AllValuesFieldListFilter)]
    search_fields = ["address", "target"]
    actions = None
    change_form_before_template = "admin/vectorstores/source/status.html"
    delete_confirmation_template = "admin/vectorstores/source/delete_confirmation.html"
    actions_detail = ["approve", "confirm_removals", "refresh_now", "cancel", "show_pages", "show_documents"]

    class Media:
        css = {"all": ["vectorstores/uploads.css", "vectorstores/sources.css"]}

    def get_form(self, request: HttpRequest, obj: Source | None = None, change: bool = False, **options: Any) -> Any:
        return super().get_form(request, obj, change, **{**options, **({} if obj else {"form": SourceForm})})

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"collection": request.GET.get("collection", "")}

    def get_fieldsets(self, request: HttpRequest, obj: Source | None = None) -> list[Any]:
        limits = (gettext_lazy("Limits"), {"fields": [("max_pages", "max_depth")]})
        if obj is None:
            place = {"fields": ["collection", "new_collection", "embedding", "namespace"]}
            return [
                (gettext_lazy("Source"), {"fields": ["kind", "address", "schedule"]}),
                limits,
                (gettext_lazy("Collection"), place),
            ]
        about = ["address_link", ("kind", "pages_from"), ("collection_name", "namespace"), "embedding"]
        settings: list[Any] = [(gettext_lazy("Schedule"), {"fields": ["schedule"]})]
        if obj.kind == Source.Kind.SITE:
            settings.append(limits)
        elif obj.kind != Source.Kind.PAGE:
            settings.append((gettext_lazy("Limits"), {"fields": ["max_pages"]}))
        return [*settings, (gettext_lazy("Source"), {"fields": [*about, ("added_by", "created_at")]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Source | None = None) -> list[str]:
        if obj is None:
            return []
        computed = ["address_link", "pages_from", "collection_name", "embedding"]
        return [*computed, "kind", "namespace", "added_by", "created_at"]

    @admin.display(description=gettext_lazy("address"), ordering="address")
    def short_address(self, source: Source) -> str:
        return on_one_line(source.address, 18)

    @admin.display(description=gettext_lazy("address"))
    def address_link(self, source: Source) -> str:
        return linked(source.address)

    @admin.display(description=gettext_lazy("pages found in"))
    def pages_from(self, source: Source) -> str:
        if source.sitemap:
            return linked(source.sitemap)
        return _("the links of its pages") if source.kind == Source.Kind.SITE else ""

    @admin.display(description=gettext_lazy("collection"), ordering="target")
    def collection_name(self, source: Source) -> str:
        return f"{source.target} ({STORES[source.store].label})"

    @admin.display(description=gettext_lazy("embedding model"))
    def embedding(self, source: Source) -> str:
        return f"{provider_name(source.embedding_provider)}, {source.embedding_model}"

    @display(description=gettext_lazy("state"), label=COLORS)
    def state_label(self, source: Source) -> tuple[str, str]:
        state = state_of(source)
        return state, str(STATES[state][0])

    @admin.display(description=gettext_lazy("last run"), ordering="ended_at")
    def last_run(self, source: Source) -> Any:
        return source.ended_at

    @admin.display(description=gettext_lazy("result"))
    def result(self, source: Source) -> str:
        return ", ".join(f"{count} {label}" for name, label in OUTCOMES if (count := getattr(source, name)))

    @admin.display(description=gettext_lazy("next run"), ordering="due_at")
    def next_run(self, source: Source) -> Any:
        return source.next_run_at

    # Adding and changing

    def save_model(self, request: HttpRequest, obj: Source, form: Any, change: bool) -> None:
        if not change:
            for name, value in asdict(form.destination).items():
                setattr(obj, name, value)
            obj.added_by = cast(User, request.user)
        super().save_model(request, obj, form, change)
        if change:
            obj.reschedule_next()

    def response_add(self, request: HttpRequest, obj: Source, post_url_continue: str | None = None) -> HttpResponse:
        """Redirect to the source's page, which shows the pages that are found."""
        if "_addanother" not in request.POST and IS_POPUP_VAR not in request.POST:
            posted = request.POST.copy()
            posted["_continue"] = "1"
            request.POST = posted  # type: ignore[assignment]
        return super().response_add(request, obj, post_url_continue)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        source = self.get_object(request, unquote(object_id))
        shown = status_of(source) if source and self.has_view_permission(request, source) else {}
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    def get_urls(self) -> list[URLPattern]:
        status = self.admin_site.admin_view(self.status_view)
        return [path("<int:pk>/status/", status, name="vectorstores_source_status"), *super().get_urls()]

    def status_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return the part of the page that shows the run; htmx asks for it until the run has ended."""
        source = self.get_queryset(request).filter(pk=pk).first()
        if not self.has_view_permission(request, source):
            return HttpResponse(status=403)
        if source is None:
            raise Http404
        if not source.is_busy:
            return HttpResponse(headers={"HX-Refresh": "true"})  # the buttons change too
        return TemplateResponse(request, "admin/vectorstores/source/status.html", status_of(source))

    # Buttons

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Offer only what the state of the source allows."""
        source = self.get_object(request, str(object_id))
        actions = super().get_actions_detail(request, object_id)
        if source is None:
            return actions
        offered = {
            "approve": not source.is_approved and source.pages.exists(),
            "confirm_removals": source.has_held_removals and not source.is_busy,
            "refresh_now": not source.is_busy,
            "cancel": source.is_busy and not source.is_cancelled,
        }
        return [one for one in actions if offered.get(one.action_name.removeprefix("vectorstores_source_"), True)]

    @action(
        description=gettext_lazy("Store these pages"),
        icon="check",
        url_path="approve",
        permissions=["change"],
        dialog=dialog(
            gettext_lazy("Store the pages that were found?"),
            gettext_lazy("They are read and embedded in the background. Embedding may cost money at your provider."),
            gettext_lazy("Store"),
        ),
    )
    def approve(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        source = self.saved(request, object_id)
        if not source.is_approved:
            source.approve()
            self.log_change(request, source, "Approved its pages.")
        return self.page_of(source)

    @action(
        description=gettext_lazy("Refresh now"),
        icon="sync",
        url_path="refresh",
        permissions=["change"],
        dialog=dialog(
            gettext_lazy("Refresh now?"),
            gettext_lazy("All pages are checked. New and changed pages are embedded."),
            gettext_lazy("Refresh"),
        ),
    )
    def refresh_now(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        source = self.saved(request, object_id)
        if not source.is_busy:
            source.refresh()
            self.log_change(request, source, "Refreshed.")
        return self.page_of(source)

    @action(
        description=gettext_lazy("Cancel"),
        icon="cancel",
        url_path="cancel",
        permissions=["change"],
        dialog=dialog(
            gettext_lazy("Cancel this run?"),
            gettext_lazy("What is already stored stays. The schedule is not changed."),
            gettext_lazy("Cancel the run"),
        ),
    )
    def cancel(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        source = self.saved(request, object_id)
        if source.is_busy:
            source.cancel()
            self.log_change(request, source, "Cancelled.")
        return self.page_of(source)

    @action(
        description=gettext_lazy("Confirm removals"),
        icon="delete_sweep",
        url_path="confirm-removals",
        permissions=["change"],
        dialog=dialog(
            gettext_lazy("Remove what has vanished?"),
            gettext_lazy("The documents of all vanished pages are deleted from the collection."),
            gettext_lazy("Remove"),
        ),
    )
    def confirm_removals(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        source = self.saved(request, object_id)
        if source.has_held_removals and not source.is_busy:
            count = source.confirm_removals()
            self.log_change(request, source, f"Confirmed the removal of {count} pages.")
        return self.page_of(source)

    @action(description=gettext_lazy("Pages"), icon="list", url_path="pages", permissions=["view"])
    def show_pages(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(pages_url(self.saved(request, object_id)))

    @action(description=gettext_lazy("Documents"), icon="article", url_path="documents", permissions=["view"])
    def show_documents(self, request: HttpRequest, object_id: str) -> HttpResponse:
        source = self.saved(request, object_id)
        query: dict[str, Any] = {"origin": source.address}
        if collection := Collection.objects.filter(store=source.store, name=source.target).first():
            query["collection__id__exact"] = collection.pk
        return HttpResponseRedirect(reverse("admin:vectorstores_document_changelist", query=query))

    # Deletion

    def deletion_line(self, source: Source) -> str:
        return f"{source.address}, {self.collection_name(source)}"

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask whether the documents are deleted too, and delete their vectors first."""
        source = self.get_object(request, unquote(object_id))
        may_delete = source is not None and request.user.has_perm("vectorstores.delete_document")
        context = {**(extra_context or {})}
        if source and may_delete and self.has_delete_permission(request, source):
            documents = Document.objects.filter(page__source=source).select_related("collection")
            context["documents"] = documents.count()
            if request.method == "POST" and request.POST.get("documents") == "delete":
                source.stop()
                wanted = list(documents)
                failures = run_async(lambda: delete_documents(wanted))
                show_failures(request, failures)
                if failures:
                    return HttpResponseRedirect(reverse("admin:vectorstores_source_change", args=[source.pk]))
        return super().delete_view(request, object_id, context)


def status_of(source: Source) -> dict[str, Any]:
    """Return what the status part of a source's page shows."""
    label, color = STATES[state_of(source)]
    return {
        **counts_of(source),
        "source": source,
        "state_label": label,
        "state_color": color,
        "pages": [cells_of(page) for page in source.pages.order_by(PROBLEMS_FIRST, "pk")[:SHOWN_PAGES]],
        "pages_url": pages_url(source),
        "vanished_url": pages_url(source, state__exact=SourcePage.State.VANISHED),
        "failed_url": pages_url(source, state__exact=SourcePage.State.FAILED),
    }
