"""The admin pages of conversations: list, search, transcript, export and deletion."""

from collections.abc import AsyncIterator, Iterator
from copy import copy
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import SuspiciousOperation
from django.db.models import Case, Count, Q, QuerySet, Sum, When
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from logs.conversations.export import export
from logs.models import Conversation, ConversationDailyTotal, ConversationQuerySet, Message
from logs.search.query import matching
from logs.usage.provider_names import provider_name
from puffer.admin import MenuItem, ReadOnlyAdmin, Section, record_export
from puffer.text import moment, whole

MAX_SHOWN = 200  # messages on one page


class VisitorFilter(admin.SimpleListFilter):
    title = _("visitor")
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("identified", gettext("identified")), ("guest", gettext("guest"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> QuerySet[Conversation]:
        if not self.value():
            return queryset
        # One expression on purpose: half of the rows match, so only the index of the list's order helps.
        guest = Case(When(user=None, external_user_id="", then=True), default=False)
        return queryset.alias(is_guest=guest).filter(is_guest=self.value() == "guest")


class ProviderFilter(admin.SimpleListFilter):
    """A filter by provider. It offers those of the daily totals, because a query on all conversations would be slow."""

    title = _("provider")
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        slugs = (
            ConversationDailyTotal.objects.exclude(provider="").order_by("provider").values_list("provider", flat=True)
        )
        return [(slug, provider_name(slug)) for slug in slugs.distinct()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> QuerySet[Conversation]:
        return queryset.filter(provider=self.value()) if self.value() else queryset


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyAdmin):
    """Conversations, which can be read, searched, exported and deleted, but not changed."""

    menu = [MenuItem(Section.ACTIVITY, 1, "chat")]
    list_display = ["visitor", "shown_last_message", "chatbot", "time", "shown_messages", "shown_tokens", "marks"]
    list_select_related = ["chatbot", "user", "api_key"]
    list_filter = [
        ("chatbot", admin.RelatedFieldListFilter),
        "updated_at",
        "rating",
        "has_error",
        "has_unanswered",
        ProviderFilter,
        VisitorFilter,
        "source",
    ]
    list_per_page = 50
    list_fullwidth = True
    ordering = ["-updated_at", "-id"]
    sortable_by = ["time", "shown_messages", "shown_tokens"]  # the columns by which neighbor() can compare
    search_fields = ["messages__content"]
    search_help_text = _("In names, e-mail addresses, sessions and messages")
    where_from = _("They appear when somebody talks to a chatbot: in a widget, through the API or in the playground.")
    show_full_result_count = False
    actions = ["export_as_csv", "export_as_json"]
    deleted_with = {
        _("messages"): Count("messages"),
        _("votes"): Count("messages", filter=~Q(messages__feedback="")),
    }
    fields = ["visitor"]  # for the page's title; the template shows the rest

    class Media:
        css = {"all": ["logs/conversations.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        return super().get_queryset(request).select_related("chatbot", "user", "api_key")

    def name_of(self, conversation: Conversation) -> str:
        return self.visitor(conversation)

    @admin.display(description=_("visitor"))
    def visitor(self, conversation: Conversation) -> str:
        if conversation.user is None and conversation.api_key:
            return gettext("API key %(name)s") % {"name": conversation.api_key}
        is_guest = conversation.user is None and not conversation.external_user_id
        name = gettext("Guest") if is_guest else conversation.visitor_name
        if conversation.user is None and conversation.session_id:
            return f"{name} {conversation.session_id[:8]}"
        return name

    @admin.display(description=_("last message"))
    def shown_last_message(self, conversation: Conversation) -> str:
        return format_html('<span class="last-message">{}</span>', conversation.last_message)

    @admin.display(description=_("time"), ordering="updated_at")
    def time(self, conversation: Conversation) -> str:
        return moment(conversation.updated_at)

    @admin.display(description=_("messages"), ordering="message_count")
    def shown_messages(self, conversation: Conversation) -> str:
        return whole(conversation.message_count)

    @admin.display(description=_("tokens"), ordering="tokens")
    def shown_tokens(self, conversation: Conversation) -> str:
        return whole(conversation.tokens)

    @admin.display(description=_("marks"))
    def marks(self, conversation: Conversation) -> str:
        return render_to_string("admin/logs/conversation/marks.html", {"conversation": conversation})

    def get_search_results(
        self, request: HttpRequest, queryset: ConversationQuerySet, search_term: str
    ) -> tuple[QuerySet[Conversation], bool]:
        text = search_term.strip()
        return (matching(queryset, text) if text else queryset), False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the conversation as a chat, with links to its neighbors in the list."""
        context = dict(extra_context or {})
        conversation = self.get_object(request, object_id)
        if conversation is not None and self.has_view_permission(request, conversation):
            context |= self.page_of(request, conversation)
        return super().change_view(request, object_id, form_url, context)

    def page_of(self, request: HttpRequest, conversation: Conversation) -> dict[str, Any]:
        messages = Message.objects.filter(conversation=conversation)
        shown, before = messages.order_by("-id"), request.GET.get("before", "")
        if before.isdecimal():
            shown = shown.filter(pk__lt=int(before[:18]))
        transcript = list(shown[: MAX_SHOWN + 1])[::-1]
        has_earlier, transcript = len(transcript) > MAX_SHOWN, transcript[-MAX_SHOWN:]
        return {
            "visitor": self.visitor(conversation),
            "show_history": False,  # conversations have no history
            "transcript": transcript,
            "earlier": self.link_to(request, conversation, before=str(transcript[0].pk)) if has_earlier else "",
            "is_latest": not before,
            "cost": messages.aggregate(cost=Sum("cost"))["cost"],
            **self.neighbors(request, conversation),
        }

    def neighbors(self, request: HttpRequest, conversation: Conversation) -> dict[str, str]:
        """Return links to the previous and next conversation in the list, with the user's filters, search and order."""
        list_request = copy(request)
        parameters = QueryDict(request.GET.get("_changelist_filters", "")).copy()
        parameters.pop(PAGE_VAR, None)
        list_request.GET = parameters  # type: ignore[assignment]
        try:
            found = self.get_changelist_instance(list_request)
        except (IncorrectLookupParameters, SuspiciousOperation):  # a query that was edited by hand
            return {}
        conversations, order = found.queryset, [str(column) for column in found.queryset.query.order_by]
        neighbors = {
            name: conversations.neighbor(conversation, order, forward=forward)
            for name, forward in (("previous", False), ("next", True))
        }
        return {name: self.link_to(request, neighbor) for name, neighbor in neighbors.items() if neighbor}

    def link_to(self, request: HttpRequest, conversation: Conversation, **query: str) -> str:
        if filters := request.GET.get("_changelist_filters"):
            query["_changelist_filters"] = filters
        return reverse("admin:logs_conversation_change", args=[conversation.pk], query=query)

    def deletion_line(self, conversation: Conversation) -> str:
        return f"{self.visitor(conversation)}, {moment(conversation.created_at)}: {conversation.last_message}"

    @admin.action(description=_("Export selected conversations as CSV"), permissions=["view"])
    def export_as_csv(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> StreamingHttpResponse:
        record_export(request, queryset, "CSV")
        return download(queryset, "csv", "text/csv; charset=utf-8")

    @admin.action(description=_("Export selected conversations as JSON lines"), permissions=["view"])
    def export_as_json(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> StreamingHttpResponse:
        record_export(request, queryset, "JSON lines")
        return download(queryset, "jsonl", "application/jsonl")


def download(conversations: QuerySet[Conversation], file_format: str, content_type: str) -> StreamingHttpResponse:
    name = f"conversations-{timezone.localdate()}.{file_format}"
    return StreamingHttpResponse(
        read_in_thread(export(conversations, file_format)),
        content_type=content_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


async def read_in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read each piece when it is needed. Django would consume a synchronous iterator before sending the first byte."""
    read = sync_to_async(lambda: next(pieces, b""))
    while piece := await read():
        yield piece
