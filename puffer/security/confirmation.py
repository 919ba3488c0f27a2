"""Ask for the password again before keys, secrets and second factors are shown or changed.

Someone at an unattended browser can read and change what its user can. Without the password, they cannot copy a secret
or create a key for later. Signing in counts as entering the password.
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin
from django.contrib.auth import authenticate
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminPasswordWidget

WINDOW = 600  # seconds
CONFIRMED_AT = "password_confirmed_at"  # in the session
FIELD = "confirm_password"
URL_NAME = "admin:auth_user_confirm_password"


def password_field(**options: Any) -> forms.CharField:
    widget = UnfoldAdminPasswordWidget({"autocomplete": "current-password"})
    return forms.CharField(label=_("Your password"), widget=widget, **options)


def check_password(request: HttpRequest, password: str) -> None:
    """Raise ValidationError for a wrong password. It counts as a failed sign-in, so too many lock the user out."""
    if authenticate(request, username=request.user.get_username(), password=password) is None:
        raise forms.ValidationError(_("This is not your password."))


class ConfirmationForm(forms.Form):
    confirm_password = password_field()

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(*args)
        self.request = request

    def clean_confirm_password(self) -> str:
        password = self.cleaned_data[FIELD]
        check_password(self.request, password)
        remember_confirmation(self.request)
        return password


def remember_confirmation(request: HttpRequest) -> None:
    request.session[CONFIRMED_AT] = int(time.time())


def is_recent(request: HttpRequest) -> bool:
    return 0 <= time.time() - request.session.get(CONFIRMED_AT, 0) < WINDOW


def recently_confirmed(view: Callable[..., Any]) -> Callable[..., Any]:
    """Ask for the password before the method of a ModelAdmin runs, unless it was entered in the last ten minutes.

    A form that was sent is kept: it is sent again with the password.
    """

    @wraps(view)
    def confirmed(model_admin: Any, request: HttpRequest, *args: Any, **options: Any) -> Any:
        return password_page(request) or view(model_admin, request, *args, **options)

    return confirmed


def password_page(request: HttpRequest) -> HttpResponse | None:
    """Return a page that asks for the password, or None if it was entered recently or is part of the form."""
    if is_recent(request):
        return None
    form = ConfirmationForm(request, request.POST if FIELD in request.POST else None)
    if form.is_valid():
        return None
    if "HX-Request" in request.headers:  # a dialog's form; htmx follows this header
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
        return HttpResponse(headers={"HX-Redirect": confirmation_url(page.path)})
    if request.method != "POST":
        return HttpResponseRedirect(confirmation_url(request.get_full_path()))
    sent = [
        (name, value)
        for name, values in request.POST.lists()
        for value in values
        if name not in (FIELD, "csrfmiddlewaretoken")
    ]
    return render(request, form, request.get_full_path(), sent)


def confirmation_url(next_url: str) -> str:
    return reverse(URL_NAME, query={"next": next_url})


def confirmation_page(request: HttpRequest) -> HttpResponse:
    """Ask for the password, and go on to the page of this server that `next` names."""
    form = ConfirmationForm(request, request.POST if request.method == "POST" else None)
    if form.is_valid():
        next_url = request.GET.get("next", "")
        # A path only: with a host, the page could be used to send users elsewhere.
        is_ours = next_url.startswith("/") and url_has_allowed_host_and_scheme(next_url, allowed_hosts=None)
        return HttpResponseRedirect(next_url if is_ours else reverse("admin:index"))
    return render(request, form, request.get_full_path())


def render(request: HttpRequest, form: forms.Form, action: str, sent: Any = ()) -> HttpResponse:
    context = {
        **admin.site.each_context(request),
        "title": _("Confirm your password"),
        "form": form,
        "action": action,
        "sent": sent,
    }
    headers = {"Cache-Control": "no-store"}  # what was sent may contain a key
    return TemplateResponse(request, "admin/puffer/confirm_password.html", context, headers=headers)
