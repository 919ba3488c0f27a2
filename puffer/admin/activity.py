"""The admin pages of the audit log: changes made in the admin, sign-ins, failed sign-ins and lock-outs."""

from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display

from puffer.admin.audit import EXPORT
from puffer.admin.base import RecordAdmin
from puffer.admin.navigation import MenuItem, Section

ACTIONS = {ADDITION: _("added"), CHANGE: _("changed"), DELETION: _("deleted"), EXPORT: _("exported")}


class ActionFilter(admin.SimpleListFilter):
    title = _("action")
    parameter_name = "action_flag__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(str(flag), action) for flag, action in ACTIONS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        known = {flag for flag in ACTIONS if str(flag) == self.value()}
        return queryset.filter(action_flag__in=known) if self.value() else queryset


@admin.register(LogEntry)
class ChangeAdmin(RecordAdmin):
    menu = [MenuItem(Section.ACCESS, 5, "history", _("Changes"))]
    heading = _("Changes")
    list_display = ["action_time", "user", "action_done", "kind", "row", "message"]
    list_display_links = ["action_time"]
    list_select_related = ["user", "content_type"]
    list_filter = [
        "action_time",
        ("user", admin.RelatedOnlyFieldListFilter),
        ("content_type", admin.RelatedOnlyFieldListFilter),
        ActionFilter,
    ]
    search_fields = ["object_repr", "change_message", "user__username"]
    search_help_text = _("Searches names, details and users.")
    fieldsets = [(None, {"fields": [("action_time", "user"), ("action_done", "kind"), "row", "message"]})]
    readonly_fields = ["action_done", "kind", "row", "message"]

    @display(
        description=_("action"),
        ordering="action_flag",
        label={ADDITION: "success", CHANGE: "info", DELETION: "danger", EXPORT: "warning"},
    )
    def action_done(self, entry: LogEntry) -> tuple[int, Any]:
        return entry.action_flag, ACTIONS.get(entry.action_flag, "")

    @admin.display(description=_("type"), ordering="content_type")
    def kind(self, entry: LogEntry) -> str:
        return entry.content_type.name if entry.content_type else ""

    @admin.display(description=_("object"), ordering="object_repr")
    def row(self, entry: LogEntry) -> str:
        try:
            url = entry.get_admin_url()
        except NoReverseMatch:
            url = None
        if url is None or entry.action_flag == DELETION:
            return entry.object_repr
        return format_html('<a class="text-link" href="{}">{}</a>', url, entry.object_repr)

    @admin.display(description=_("details"))
    def message(self, entry: LogEntry) -> str:
        return entry.get_change_message()


@admin.register(AccessLog)
class SignInAdmin(RecordAdmin):
    menu = [MenuItem(Section.ACCESS, 6, "login", _("Sign-ins"))]
    heading = _("Sign-ins")
    list_display = ["attempt_time", "username", "ip_address", "logout_time", "user_agent"]
    list_filter = ["attempt_time"]
    search_fields = ["username", "ip_address", "user_agent"]
    fieldsets = [(None, {"fields": [("attempt_time", "logout_time"), ("username", "ip_address"), "user_agent"]})]


@admin.register(AccessFailureLog)
class FailedSignInAdmin(RecordAdmin):
    menu = [MenuItem(Section.ACCESS, 7, "no_accounts", _("Failed sign-ins"))]
    heading = _("Failed sign-ins")
    list_display = ["attempt_time", "username", "ip_address", "locked_out", "user_agent"]
    list_filter = ["attempt_time", "locked_out"]
    search_fields = ["username", "ip_address", "user_agent"]
    fieldsets = [(None, {"fields": [("attempt_time", "locked_out"), ("username", "ip_address"), "user_agent"]})]


@admin.register(AccessAttempt)
class LockAdmin(RecordAdmin):
    """Failed sign-ins that count towards a lock-out. Deleting the rows of a user unlocks the user."""

    menu = [MenuItem(Section.ACCESS, 8, "lock", _("Lock-outs"))]
    heading = _("Lock-outs")
    list_display = ["username", "ip_address", "failures_since_start", "attempt_time"]
    search_fields = ["username", "ip_address"]
    fieldsets = [(None, {"fields": [("username", "ip_address"), ("failures_since_start", "attempt_time")]})]
    actions = ["unlock"]

    def has_unlock_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("axes.delete_accessattempt")

    @action(description=_("Unlock"), permissions=["unlock"])
    def unlock(self, request: HttpRequest, attempts: QuerySet[AccessAttempt]) -> None:
        names = ", ".join(sorted({str(attempt.username) for attempt in attempts}))
        for attempt in attempts:
            self.log_change(request, attempt, f"Unlocked {attempt.username} from {attempt.ip_address}.")
        attempts.delete()
        messages.success(request, gettext("Unlocked: %(names)s.") % {"names": names})
