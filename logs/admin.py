"""Conversations, usage and prices."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import display

from logs.export import export
from logs.models import Conversation, ConversationQuerySet, Message, ModelPrice, UsageEvent
from logs.search import matching

MAX_SHOWN = 500  # messages on one page
MAX_NAMED = 100  # conversations on the page that asks whether to delete them


class ReadOnlyAdmin(ModelAdmin):
    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """Back to the list, where Django leads only those who may change something."""
        super().response_delete(request, obj_display, obj_id)
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyAdmin):
    """A log is read, searched, exported and deleted, but never written by hand."""

    list_display = ["visitor", "chatbot", "message_count", "source", "updated_at"]
    list_select_related = ["chatbot", "user", "api_key"]
    list_filter = [("chatbot", admin.RelatedOnlyFieldListFilter), "source", "updated_at"]
    list_per_page = 50
    ordering = ["-updated_at", "-id"]
    search_fields = ["messages__content"]
    search_help_text = "In the visitor's name, e-mail or session, and in what was said."
    show_full_result_count = False
    actions = ["export_as_csv", "export_as_json"]
    fieldsets = [
        (None, {"fields": [("visitor", "chatbot"), ("source", "address"), ("created_at", "updated_at")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        return super().get_queryset(request).select_related("chatbot", "user", "api_key")

    @admin.display(description="visitor")
    def visitor(self, conversation: Conversation) -> str:
        if conversation.user is None and conversation.api_key:
            return f"API key {conversation.api_key}"
        if conversation.user is None and conversation.session_id:
            return f"{conversation.visitor_name} {conversation.session_id[:8]}"
        return conversation.visitor_name

    @admin.display(description="IP address")
    def address(self, conversation: Conversation) -> str | None:
        return conversation.ip_address

    def get_search_results(
        self, request: HttpRequest, queryset: ConversationQuerySet, search_term: str
    ) -> tuple[QuerySet[Conversation], bool]:
        text = search_term.strip()
        return (matching(queryset, text) if text else queryset), False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With the conversation itself below what is known about it."""
        conversation = self.get_object(request, object_id)
        newest_first = Message.objects.filter(conversation=conversation).order_by("-id")
        transcript = list(newest_first[:MAX_SHOWN])[::-1] if conversation else []
        context = {"title": "Conversation", "transcript": transcript, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """How much goes, and the first of the conversations by name: all of them may be too many for a page."""
        messages = Message.objects.filter(conversation__in=objs)
        counts = {
            "conversations": len(objs),
            "messages": messages.count(),
            "votes": messages.exclude(feedback="").count(),
        }
        named = [str(conversation) for conversation in objs[:MAX_NAMED]]
        if more := len(objs) - len(named):
            named.append(f"and {more} more")
        return named, counts, set(), []

    @admin.action(description="Export selected conversations as CSV", permissions=["view"])
    def export_as_csv(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> StreamingHttpResponse:
        return download(queryset, "csv", "text/csv; charset=utf-8")

    @admin.action(description="Export selected conversations as JSON lines", permissions=["view"])
    def export_as_json(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> StreamingHttpResponse:
        return download(queryset, "jsonl", "application/jsonl")


def download(conversations: QuerySet[Conversation], file_format: str, content_type: str) -> StreamingHttpResponse:
    name = f"conversations-{timezone.localdate()}.{file_format}"
    return StreamingHttpResponse(
        read_in_thread(export(conversations, file_format)),
        content_type=content_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


async def read_in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each when it is wanted: what is iterated otherwise is read as a whole before the first byte leaves."""
    read = sync_to_async(lambda: next(pieces, b""))
    while piece := await read():
        yield piece


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ok", "succeeded"), ("failed", "failed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        if self.value() == "ok":
            return queryset.filter(status__lt=400)
        return queryset.filter(status__gte=400) if self.value() == "failed" else queryset


@admin.register(UsageEvent)
class UsageEventAdmin(ReadOnlyAdmin):
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
    search_fields = ["model", "caller", "error_code", "request_id"]
    show_full_result_count = False
    list_before_template = "admin/logs/usageevent/totals.html"

    @admin.display(description="time", ordering="created_at")
    def time(self, event: UsageEvent) -> str:
        return f"{timezone.localtime(event.created_at):%Y-%m-%d %H:%M:%S}"

    @admin.display(description="model", ordering="model")
    def model_called(self, event: UsageEvent) -> str:
        return f"{event.provider}, {event.model}"

    @admin.display(description="tokens in, out")
    def tokens(self, event: UsageEvent) -> str:
        return "" if event.input_tokens is None else f"{event.input_tokens} + {event.output_tokens or 0}"

    @admin.display(description="took", ordering="milliseconds")
    def duration(self, event: UsageEvent) -> str:
        return f"{event.milliseconds} ms"

    @admin.display(description="cost", ordering="cost")
    def dollars(self, event: UsageEvent) -> str:
        return "" if event.cost is None else f"${event.cost:.6f}"

    @display(description="status", ordering="status", label={"ok": "success", "failed": "danger"})
    def outcome(self, event: UsageEvent) -> tuple[str, str]:
        return "ok" if event.status < 400 else "failed", str(event.status)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With the totals of all rows that the filters leave, not only those of the page."""
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
    """Own prices, which count from the next call on: what was recorded keeps its cost."""

    list_display = ["provider", "model", "input_price", "output_price", "image_price"]
    search_fields = ["provider", "model"]
    list_filter = ["provider"]
