"""Two-factor authentication with an authenticator app, for users who turn it on.

setup: page -> key as a QR code -> first correct code -> on, and recovery codes shown once
sign-in: name and password -> code from the app, or one of the recovery codes
"""

from collections.abc import Awaitable, Callable
from typing import Any

import segno
from asgiref.sync import sync_to_async
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import async_only_middleware
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from puffer.security.authenticator import AuthenticatorApp, RecoveryCode, digest, new_recovery_code, new_secret
from puffer.security.confirmation import check_password, password_field

MAX_CODE = 40  # characters, blanks included
RECOVERY_CODES = 10
OPEN_WITHOUT_SECOND_FACTOR = ["admin:auth_user_second_factor", "admin:login", "admin:logout", "admin:jsi18n"]


def is_on(user: Any) -> bool:
    return AuthenticatorApp.objects.filter(user=user, confirmed=True).exists()


def app_of(user: Any, *, confirmed: bool) -> AuthenticatorApp | None:
    """Return the user's app, locked. Two requests at once may have made two: the first one counts."""
    apps = AuthenticatorApp.objects.select_for_update().filter(user=user, confirmed=confirmed)
    return apps.order_by("pk").first()


@transaction.atomic
def is_right(user: Any, code: str) -> bool:
    """Return whether the code is the app's current one or an unused recovery code. Each works once."""
    app = app_of(user, confirmed=True)
    return app is not None and app.verify_token(without_blanks(code))


@transaction.atomic
def turn_on(user: Any, code: str) -> bool:
    """Turn two-factor authentication on if the code is the new app's current one, and return whether it was."""
    app = app_of(user, confirmed=False)
    if app is None or not app.verify_token(without_blanks(code)):
        return False
    AuthenticatorApp.objects.filter(user=user).exclude(pk=app.pk).delete()
    app.confirmed = True
    app.save(update_fields=["confirmed"])
    return True


@transaction.atomic
def new_app(user: Any) -> AuthenticatorApp:
    """Return the app that is to be confirmed, with a key that can be read."""
    app = app_of(user, confirmed=False) or AuthenticatorApp.objects.create(user=user, name="app", confirmed=False)
    if not app.key:  # encrypted with a key that is gone
        app.key = new_secret()
        app.save()
    return app


def without_blanks(code: str) -> str:
    return "".join(code.split()).lower()


def turn_off(user: Any) -> bool:
    """Turn two-factor authentication off, and return whether it was on."""
    was_on = is_on(user)
    AuthenticatorApp.objects.filter(user=user).delete()
    RecoveryCode.objects.filter(user=user).delete()
    return was_on


def new_recovery_codes(user: Any) -> list[str]:
    RecoveryCode.objects.filter(user=user).delete()
    codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=digest(code)) for code in codes)
    return codes


def code_field(**options: Any) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget({"autocomplete": "one-time-code", "spellcheck": "false"})
    return forms.CharField(label=_("Code"), max_length=MAX_CODE, widget=widget, **options)


class SignInForm(AuthenticationForm):
    """The sign-in form, with a field for the code if any user has turned two-factor authentication on."""

    code = code_field(
        required=False, help_text=_("From your authenticator app, or a recovery code. Leave empty without one.")
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if not AuthenticatorApp.objects.filter(confirmed=True).exists():
            del self.fields["code"]

    def confirm_login_allowed(self, user: AbstractBaseUser) -> None:
        super().confirm_login_allowed(user)
        if is_on(user) and not is_right(user, self.data.get("code", "")[:MAX_CODE]):
            # Makes django-axes count the attempt like a wrong password.
            credentials = {"username": user.get_username()}
            user_login_failed.send(sender=__name__, credentials=credentials, request=self.request)
            raise forms.ValidationError(_("The code is missing or wrong. After a wrong code, wait a moment."))


class SwitchForm(forms.Form):
    """A form that asks for the password again, so that nobody at an unattended browser can change the second factor."""

    password = password_field()
    code = code_field()

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(*args)
        self.request = request
        if is_on(request.user):
            del self.fields["code"]

    def clean_password(self) -> str:
        password = self.cleaned_data["password"]
        check_password(self.request, password)
        return password

    def clean(self) -> None:
        super().clean()
        if self.errors or "code" not in self.fields:
            return
        if not turn_on(self.request.user, self.cleaned_data["code"]):
            self.add_error("code", _("The code is wrong. Check that the clock of your phone is right."))


def two_factor_page(request: HttpRequest, model_admin: admin.ModelAdmin) -> HttpResponse:
    """Show the page on which users turn two-factor authentication on and off for themselves."""
    user: Any = request.user
    form = SwitchForm(request, request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {"form": form, "is_on": is_on(user), "is_required": settings.REQUIRE_SECOND_FACTOR}
    if form.is_valid():
        if context["is_on"]:
            turn_off(user)
            model_admin.log_change(request, user, "Two-factor authentication turned off.")
            messages.success(request, _("Two-factor authentication is off."))
            return HttpResponseRedirect(request.path)
        model_admin.log_change(request, user, "Two-factor authentication turned on.")
        context["recovery_codes"] = new_recovery_codes(user)
    elif context["is_on"]:
        context["codes_left"] = RecoveryCode.objects.filter(user=user).count()
    else:
        app = new_app(user)
        context |= {"qr_code": qr_code(app), "key": key_of(app)}
    context |= {**model_admin.admin_site.each_context(request), "title": _("Two-factor authentication")}
    return TemplateResponse(request, "admin/puffer/second_factor.html", context)


@async_only_middleware
def RequireSecondFactorMiddleware(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """With REQUIRE_SECOND_FACTOR, lead users without a second factor to its page before any other."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if (
            settings.REQUIRE_SECOND_FACTOR
            and request.path.startswith(reverse("admin:index"))
            and request.path not in [reverse(name) for name in OPEN_WITHOUT_SECOND_FACTOR]
            and await sync_to_async(lacks_second_factor)(request)
        ):
            return HttpResponseRedirect(reverse("admin:auth_user_second_factor"))
        return await get_response(request)

    return middleware


def lacks_second_factor(request: HttpRequest) -> bool:
    return request.user.is_authenticated and not is_on(request.user)


def qr_code(app: AuthenticatorApp) -> SafeString:
    svg = segno.make(app.config_url, error="m").svg_inline(scale=5, border=4, light="#fff", title="QR code")
    return mark_safe(svg)  # noqa: S308  segno draws it from a percent-encoded URL


def key_of(app: AuthenticatorApp) -> str:
    """Return the key in groups of four letters, for users who cannot scan the QR code."""
    key = app.base32_key
    return " ".join(key[start : start + 4] for start in range(0, len(key), 4))
