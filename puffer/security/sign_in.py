"""Lockouts after failed sign-ins, which django-axes counts."""

import math
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from puffer.net.client_ip import client_ip


def address(request: HttpRequest) -> str | None:
    """Return the address by which failures are counted, in addition to the user name."""
    return client_ip(request) or None


def locked_out(request: HttpRequest, response: HttpResponse | None, credentials: Any) -> HttpResponse:
    """Answer 429 instead of the sign-in page, with the same text whether the user exists or not."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    context = {**admin.site.each_context(request), "title": _("Too many attempts"), "minutes": math.ceil(seconds / 60)}
    page = render(request, "admin/puffer/locked_out.html", context, status=429)
    page["Retry-After"] = str(seconds)
    return page
