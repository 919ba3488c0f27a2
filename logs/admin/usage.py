"""The admin pages of usage events and model prices."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from logs.models import ModelPrice, UsageEvent
from logs.usage.provider_names import PROVIDER_NAMES, provider_name
from puffer.admin import MenuItem, RecordAdmin, Section
from puffer.text import dollars, duration, moment


class OutcomeFilter(admin.SimpleListFilter):
    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ok", gettext("succeeded")), ("failed", gettext("failed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        if self.value() == "ok":
            return queryset.filter(status__lt=400)
        return queryset.filter(status__gte=400) if self.value() == "failed" else queryset


@admin.register(UsageEvent)
class UsageEventAdmin(RecordAdmin):
    """Provider calls, with the totals of the filtered list."""

    menu = [MenuItem(Section.ACTIVITY, 3, "bar_chart", _("Usage"))]
    heading = _("Usage")
    where_from = _("Every call of a provider is listed here.")
    list_display = [
        "time",
        "operation",
        "model_called",
        "caller",
        "chatbot",
        "tokens",
        "dollars",
        "duration",
        "outcome",
    ]
    list_select_related = ["chatbot"]
    list_filter = [
        "created_at",
        "operation",
        ("provider", admin.AllValuesFieldListFilter),
        ("chatbot", admin.RelatedOnlyFieldListFilter),
        ("api_key", admin.RelatedOnlyFieldListFilter),
        OutcomeFilter,
    ]
    list_fullwidth = True
    list_per_page = 100
    search_fields = ["model", "caller", "error_code", "request_id"]
    search_help_text = _("In models, callers, error codes and request IDs")
    fieldsets = [
        (None, {"fields": [("time", "duration"), ("operation", "model_called"), ("caller", "chatbot")]}),
        (_("Usage"), {"fields": [("tokens", "images"), "dollars"]}),
        (_("Result"), {"fields": [("status", "error_code"), "request_id"]}),
    ]
    list_before_template = "admin/logs/usageevent/totals.html"

    @admin.display(description=_("time"), ordering="created_at")
    def time(self, event: UsageEvent) -> str:
        return moment(event.created_at, seconds=True)

    @admin.display(description=_("model"), ordering="model")
    def model_called(self, event: UsageEvent) -> str:
        return f"{provider_name(event.provider)}, {event.model}"

    @admin.display(description=_("tokens in, out"))
    def tokens(self, event: UsageEvent) -> str:
        return "" if event.input_tokens is None else f"{event.input_tokens:,} + {event.output_tokens or 0:,}"

    @admin.display(description=_("duration"), ordering="milliseconds")
    def duration(self, event: UsageEvent) -> str:
        return duration(event.milliseconds)

    @admin.display(description=_("cost"), ordering="cost")
    def dollars(self, event: UsageEvent) -> str:
        return "" if event.cost is None else f"${event.cost:.6f}"

    @display(description=_("status"), ordering="status", label={"ok": "success", "failed": "danger"})
    def outcome(self, event: UsageEvent) -> tuple[str, str]:
        return "ok" if event.status < 400 else "failed", str(event.status)

    def name_of(self, event: UsageEvent) -> str:
        return capfirst(f"{event.get_operation_display()}, {self.model_called(event)}")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Add the totals of all rows that match the filters, on every page."""
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            rows = response.context_data["cl"].queryset.order_by()
            response.context_data["totals"] = rows.aggregate(
                calls=Count("pk"),
                input_tokens=Sum("input_tokens", default=0),
                output_tokens=Sum("output_tokens", default=0),
                images=Sum("images", default=0),
                dollars=Sum("cost", default=0),
                without_price=Count("pk", filter=Q(cost=None, status__lt=400)),
            )
        return response


@admin.register(ModelPrice)
class ModelPriceAdmin(ModelAdmin):
    """The owner's prices. They apply from the next call on; recorded calls keep their cost."""

    menu = [MenuItem(Section.ACTIVITY, 6, "payments")]
    where_from = _("Models whose price differs from the list price.")
    list_display = ["shown_provider", "model", "input", "output", "image"]
    list_display_links = ["model"]
    search_fields = ["provider", "model"]
    search_help_text = _("In providers and models")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "provider":
            return forms.ChoiceField(
                label=capfirst(db_field.verbose_name),
                choices=list(PROVIDER_NAMES.items()),
                widget=UnfoldAdminSelectWidget,
            )
        return super().formfield_for_dbfield(db_field, request, **options)

    def name_of(self, price: ModelPrice) -> str:
        return f"{self.shown_provider(price)}, {price.model}"

    @admin.display(description=_("provider"), ordering="provider")
    def shown_provider(self, price: ModelPrice) -> str:
        return provider_name(price.provider)

    @admin.display(description=_("input, per million tokens"), ordering="input_price")
    def input(self, price: ModelPrice) -> str:
        return dollars(price.input_price)

    @admin.display(description=_("output, per million tokens"), ordering="output_price")
    def output(self, price: ModelPrice) -> str:
        return dollars(price.output_price)

    @admin.display(description=_("per image"), ordering="image_price")
    def image(self, price: ModelPrice) -> str:
        return dollars(price.image_price) if price.image_price else ""
