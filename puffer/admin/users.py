"""The admin pages of users and groups."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from puffer.admin.confirmed import ConfirmedChanges
from puffer.admin.navigation import MenuItem, Section
from puffer.security import second_factor
from puffer.security.authenticator import AuthenticatorApp
from puffer.security.confirmation import confirmation_page, recently_confirmed
from puffer.security.own_sessions import own_sessions_page
from puffer.security.roles import ROLES

ACTIONS = {"view": _("view"), "add": _("add"), "change": _("change"), "delete": _("delete")}  # in display order

admin.site.unregister([User, Group])
admin.site.login_template = "admin/puffer/sign_in.html"


@admin.register(User)
class UserAdmin(ConfirmedChanges, DjangoUserAdmin, ModelAdmin):
    menu = [MenuItem(Section.ACCESS, 3, "person")]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    autocomplete_fields = ["groups"]
    filter_horizontal = ["user_permissions"]
    list_display = ["username", "email", "shown_roles", "is_staff", "is_active", "second_factor"]
    actions = ["remove_second_factor"]

    def get_urls(self) -> list[URLPattern]:
        own = {
            "second-factor/": (self.own_second_factor, "auth_user_second_factor"),
            "sign-ins/": (self.own_sessions, "auth_user_own_sessions"),
            "confirm-password/": (confirmation_page, "auth_user_confirm_password"),
        }
        pages = [path(route, self.admin_site.admin_view(view), name=name) for route, (view, name) in own.items()]
        return [*pages, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        apps = AuthenticatorApp.objects.filter(user=OuterRef("pk"), confirmed=True)
        return super().get_queryset(request).prefetch_related("groups").annotate(has_app=Exists(apps))

    @display(description=_("roles"), label=True)
    def shown_roles(self, user: User) -> list[str]:
        return [gettext("superuser")] if user.is_superuser else [group.name for group in user.groups.all()]

    @display(description=_("two-factor"), boolean=True)
    def second_factor(self, user: Any) -> bool:
        return user.has_app

    def own_second_factor(self, request: HttpRequest) -> HttpResponse:
        return second_factor.two_factor_page(request, self)

    def own_sessions(self, request: HttpRequest) -> HttpResponse:
        return own_sessions_page(request, self)

    @recently_confirmed
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        return super().user_change_password(request, id, form_url)

    @action(description=_("Turn off two-factor authentication"), permissions=["change"])
    @recently_confirmed
    def remove_second_factor(self, request: HttpRequest, users: QuerySet[User]) -> None:
        """Turn two-factor authentication off for users who have lost their phone and their recovery codes."""
        removed = [user for user in users if second_factor.turn_off(user)]
        for user in removed:
            self.log_change(request, user, "Two-factor authentication turned off.")
        messages.success(
            request, ngettext("Turned off for %d user.", "Turned off for %d users.", len(removed)) % len(removed)
        )


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """Groups of users. The three roles are read-only; owners can add groups for other permissions."""

    menu = [MenuItem(Section.ACCESS, 4, "group")]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [(None, {"fields": ["name", "rights"]})] if is_role(obj) else super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_readonly_fields(request, obj), "rights"]

    @admin.display(description=_("permissions of members"))
    def rights(self, group: Group) -> SafeString:
        """Return one line per model, because a list of single permissions would fill a page."""
        actions: dict[str, list[str]] = {}
        for permission in group.permissions.select_related("content_type"):
            action_name, *_rest = permission.codename.partition("_")
            actions.setdefault(capfirst(permission.content_type.name), []).append(action_name)
        lines = (
            (kind, ", ".join(str(label) for name, label in ACTIONS.items() if name in names))
            for kind, names in sorted(actions.items())
        )
        return format_html("<ul>{}</ul>", format_html_join("", "<li><strong>{}</strong>: {}</li>", lines))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not is_role(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not is_role(obj) and super().has_delete_permission(request, obj)


def is_role(group: Any) -> bool:
    return isinstance(group, Group) and group.name in ROLES
