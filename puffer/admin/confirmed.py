"""Bases of admin pages that protect secrets: see puffer/security/confirmation.py."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from puffer.security.confirmation import confirmation_url, is_recent, password_page


class ConfirmedChanges:
    """Pages whose forms are saved only by users who entered their password a short while ago."""

    def changeform_view(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        page = password_page(request) if request.method == "POST" else None
        return page or super().changeform_view(request, *args, **options)  # type: ignore[misc]


class GuardedSecrets:
    """Pages that show a secret only to users who entered their password a short while ago.

    `get_object` sets `confirm_url` of the object: where to enter the password, or "" if the secret may be shown.
    """

    def get_object(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        obj = super().get_object(request, *args, **options)  # type: ignore[misc]
        if obj is not None:
            obj.confirm_url = "" if is_recent(request) else confirmation_url(request.path)
        return obj
