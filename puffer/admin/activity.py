"""Who changed what in the admin, and who has signed in or tried to."""

from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display

from puffer.admin.audit import EXPORT
from puffer.admin.base import RecordAdmin
from puffer.admin.navigation import MenuItem, Section

DEEDS = {ADDITION: "added", CHANGE: "changed", DELETION: "deleted", EXPORT: "exported"}


class DeedFilter(admin.SimpleListFilter):
    title = "what was done"
    parameter_name = "action_flag__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(flag), deed) for flag, deed in DEEDS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        known = {flag for flag in DEEDS if str(flag) == self.value()}
        return queryset.filter(action_flag__in=known) if self.value() else queryset


@admin.register(LogEntry)
class ChangeAdmin(RecordAdmin):
    menu = [MenuItem(Section.ACCESS, 5, "history", _("Changes"))]
    heading = "Changes"
    list_display = ["action_time", "user", "deed", "kind", "row", "message"]
    list_display_links = ["action_time"]
    list_select_related = ["user", "content_type"]
    list_filter = [
        "action_time",
        ("user", admin.RelatedOnlyFieldListFilter),
        ("content_type", admin.RelatedOnlyFieldListFilter),
        DeedFilter,
    ]
    search_fields = ["object_repr", "change_message", "user__username"]
    search_help_text = "In names, in what was changed, and in users."
    fieldsets = [(None, {"fields": [("action_time", "user"), ("deed", "kind"), "row", "message"]})]
    readonly_fields = ["deed", "kind", "row", "message"]

    @display(
        description="what was done",
        ordering="action_flag",
        label={"added": "success", "changed": "info", "deleted": "danger", "exported": "warning"},
    )
    def deed(self, entry: LogEntry) -> str:
        return DEEDS.get(entry.action_flag, "")

    @admin.display(description="of what", ordering="content_type")
    def kind(self, entry: LogEntry) -> str:
        return entry.content_type.name if entry.content_type else ""

    @admin.display(description="which", ordering="object_repr")
    def row(self, entry: LogEntry) -> str:
        try:
            url = entry.get_admin_url()
        except NoReverseMatch:
            url = None
        if url is None or entry.action_flag == DELETION:
            return entry.object_repr
        return format_html('<a class="text-link" href="{}">{}</a>', url, entry.object_repr)

    @admin.display(description="how")
    def message(self, entry: LogEntry) -> str:
        return entry.get_change_message()


@admin.register(AccessLog)
class SignInAdmin(RecordAdmin):
    menu = [MenuItem(Section.ACCESS, 6, "login", _("Sign-ins"))]
    heading = "Sign-ins"
    list_display = ["attempt_time", "username", "ip_address", "logout_time", "user_agent"]
    list_filter = ["attempt_time"]
    search_fields = ["username", "ip_address", "user_agent"]
    fieldsets = [(None, {"fields": [("attempt_time", "logout_time"), ("username", "ip_address"), "user_agent"]})]


@admin.register(AccessFailureLog)
class FailedSignInAdmin(RecordAdmin):
    menu = [MenuItem(Section.ACCESS, 7, "no_accounts", _("Failed sign-ins"))]
    heading = "Failed sign-ins"
    list_display = ["attempt_time", "username", "ip_address", "locked_out", "user_agent"]
    list_filter = ["attempt_time", "locked_out"]
    search_fields = ["username", "ip_address", "user_agent"]
    fieldsets = [(None, {"fields": [("attempt_time", "locked_out"), ("username", "ip_address"), "user_agent"]})]


@admin.register(AccessAttempt)
class LockAdmin(RecordAdmin):
    """Failures that count at present. Without them the user is no longer locked out."""

    menu = [MenuItem(Section.ACCESS, 8, "lock", _("Lock-outs"))]
    heading = "Lock-outs"
    list_display = ["username", "ip_address", "failures_since_start", "attempt_time"]
    search_fields = ["username", "ip_address"]
    fieldsets = [(None, {"fields": [("username", "ip_address"), ("failures_since_start", "attempt_time")]})]
    actions = ["unlock"]

    def has_unlock_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("axes.delete_accessattempt")

    @action(description="Unlock", permissions=["unlock"])
    def unlock(self, request: HttpRequest, attempts: QuerySet[AccessAttempt]) -> None:
        names = ", ".join(sorted({str(attempt.username) for attempt in attempts}))
        for attempt in attempts:
            self.log_change(request, attempt, f"Unlocked {attempt.username} from {attempt.ip_address}.")
        attempts.delete()
        messages.success(request, f"Unlocked: {names}.")
