"""API keys, users and groups."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from puffer import admin_audit as admin_audit  # registers its pages
from puffer import second_factor
from puffer.models import ApiKey, Scope
from puffer.roles import ROLES

DEEDS = ["view", "add", "change", "delete"]  # as permissions are named, in the order in which they are shown

admin.site.unregister([User, Group, TOTPDevice, StaticDevice])
admin.site.login_template = "admin/puffer/sign_in.html"


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    autocomplete_fields = ["groups"]
    filter_horizontal = ["user_permissions"]
    list_display = ["username", "email", "shown_roles", "is_staff", "is_active", "second_factor"]
    actions = ["remove_second_factor"]

    def get_urls(self) -> list[URLPattern]:
        own_page = self.admin_site.admin_view(self.own_second_factor)
        return [path("second-factor/", own_page, name="auth_user_second_factor"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        apps = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        return super().get_queryset(request).prefetch_related("groups").annotate(has_app=Exists(apps))

    @display(description="roles", label=True)
    def shown_roles(self, user: User) -> list[str]:
        return ["superuser"] if user.is_superuser else [group.name for group in user.groups.all()]

    @display(description="second factor", boolean=True)
    def second_factor(self, user: Any) -> bool:
        return user.has_app

    def own_second_factor(self, request: HttpRequest) -> HttpResponse:
        return second_factor.own_page(request, self)

    @action(description="Remove the second factor", permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, users: QuerySet[User]) -> None:
        """For who has lost the phone and the recovery codes."""
        removed = [user for user in users if second_factor.switch_off(user)]
        for user in removed:
            self.log_change(request, user, "Second factor removed.")
        messages.success(request, f"Second factors removed: {len(removed)}.")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """The roles are puffer's own: who wants another mixture of permissions adds a group."""

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [(None, {"fields": ["name", "rights"]})] if is_role(obj) else super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_readonly_fields(request, obj), "rights"]

    @admin.display(description="what its members may do")
    def rights(self, group: Group) -> SafeString:
        """A line for each kind of row: the permissions one by one would fill a page."""
        deeds: dict[str, list[str]] = {}
        for permission in group.permissions.select_related("content_type"):
            deed, _, _ = permission.codename.partition("_")
            deeds.setdefault(capfirst(permission.content_type.name), []).append(deed)
        lines = ((kind, ", ".join(sorted(names, key=DEEDS.index))) for kind, names in sorted(deeds.items()))
        return format_html("<ul>{}</ul>", format_html_join("", "<li><strong>{}</strong>: {}</li>", lines))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not is_role(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not is_role(obj) and super().has_delete_permission(request, obj)


def is_role(group: Any) -> bool:
    return isinstance(group, Group) and group.name in ROLES


class ApiKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, f"{scope.label} ({scope.value})") for scope in Scope],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What the key may do.",
    )

    class Meta:
        model = ApiKey
        fields = ["name", "scopes", "is_bound", "chatbots", "expires_on"]

    def clean(self) -> dict[str, Any]:
        cleaned = cast(dict[str, Any], super().clean())
        if cleaned.get("chatbots"):
            cleaned["is_bound"] = True
        elif cleaned.get("is_bound"):
            self.add_error("chatbots", "Choose the chatbots that it may use.")
        return cleaned


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """A key is shown once, when it is made. It ends by being revoked, and stays listed for those who read the usage."""

    form = ApiKeyForm
    add_fieldsets = [(None, {"fields": ["name", "scopes", "is_bound", "chatbots", "expires_on"]})]
    fieldsets = [
        (None, {"fields": ["name", "scopes", "is_bound", "chatbots", "expires_on"]}),
        ("State", {"fields": ["ends_with", "state", "last_used_on", "created_at", "revoked_at"]}),
    ]
    readonly_fields = ["ends_with", "state", "last_used_on", "created_at", "revoked_at"]
    autocomplete_fields = ["chatbots"]
    list_display = ["name", "ends_with", "may", "last_used_on", "expires_on", "state"]
    search_fields = ["name", "ending"]
    actions = ["revoke"]

    @admin.display(description="ends with", ordering="ending")
    def ends_with(self, key: ApiKey) -> str:
        return f"…{key.ending}"

    @display(description="may", label=True)
    def may(self, key: ApiKey) -> list[str]:
        return ["everything"] if set(key.scopes) == set(Scope.values) else key.scopes

    @display(description="state", label={"active": "success", "expired": "warning", "revoked": "danger"})
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "revoked"
        return "active" if key.is_active else "expired"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        revoked = isinstance(obj, ApiKey) and obj.revoked_at is not None
        return not revoked and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, key: ApiKey, form: forms.ModelForm, change: bool) -> None:
        if change:
            # What the form changed and no more: a key that was revoked meanwhile stays so.
            key.save(update_fields=["is_bound", *(name for name in form.changed_data if name != "chatbots")])
        else:
            request.new_api_key = key.issue()  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, key: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The page that shows the key. Not a message after a redirect: that would lie in a cookie on the way."""
        context = {
            **self.admin_site.each_context(request),
            "title": "New API key",
            "opts": self.opts,
            "object": key,
            "api_key": request.new_api_key,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/puffer/apikey/issued.html", context)

    @action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> HttpResponse | None:
        keys = keys.filter(revoked_at=None)
        if not keys:
            messages.info(request, "They are revoked already.")
            return None
        if "confirmed" not in request.POST:
            context = {
                **self.admin_site.each_context(request),
                "title": "Revoke API keys",
                "opts": self.opts,
                "keys": keys,
            }
            return TemplateResponse(request, "admin/puffer/apikey/revoke.html", context)
        for key in keys:
            key.revoke()
            self.log_change(request, key, "Revoked.")
        messages.success(request, f"Revoked: {', '.join(key.name for key in keys)}.")
        return None
