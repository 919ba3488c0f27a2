"""Signing in to the admin: whom django-axes locks out, and what they read."""

import math
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from puffer.net.client_ip import client_ip


def address(request: HttpRequest) -> str | None:
    """What failures are counted by, beside the user's name. Never by what the client says of itself."""
    return client_ip(request) or None


def locked_out(request: HttpRequest, response: HttpResponse | None, credentials: Any) -> HttpResponse:
    """Instead of the sign-in page. It says the same whether there is such a user or not."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    context = {**admin.site.each_context(request), "title": "Too many attempts", "minutes": math.ceil(seconds / 60)}
    page = render(request, "admin/puffer/locked_out.html", context, status=429)
    page["Retry-After"] = str(seconds)
    return page
