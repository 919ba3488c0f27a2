"""The middleware that shows the admin in the browser's language."""

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation


class AdminLocaleMiddleware(LocaleMiddleware):
    """Django's LocaleMiddleware for the admin only. All other pages use LANGUAGE_CODE."""

    def process_request(self, request: HttpRequest) -> None:
        if in_admin(request):
            super().process_request(request)
        else:
            translation.activate(settings.LANGUAGE_CODE)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return super().process_response(request, response) if in_admin(request) else response


def in_admin(request: HttpRequest) -> bool:
    return request.path_info.startswith("/admin/")
