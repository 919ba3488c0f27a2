"""The audit log's entries that Django's admin does not write itself: exports and changes of one's own password."""

from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import translation

from puffer.text.formatting import counted

EXPORT = 4  # an action flag of LogEntry, in addition to Django's three
MAX_FILTER = 1000  # characters


def record_export(request: HttpRequest, rows: QuerySet[Any], file_format: str) -> None:
    """Record in the audit log who exported how many rows, and with which search and filters."""
    filters = ", ".join(f"{name}={value}" for name, values in request.GET.lists() for value in values)
    with translation.override(None):  # the log is in English
        kind = str(rows.model._meta.verbose_name)
    LogEntry.objects.create(
        user=cast(User, request.user),
        content_type=ContentType.objects.get_for_model(rows.model),
        object_repr=counted(rows.count(), kind),
        action_flag=EXPORT,
        change_message=f"As {file_format}, of the list with {filters[:MAX_FILTER]}" if filters else f"As {file_format}",
    )


def change_own_password(request: HttpRequest) -> HttpResponse:
    response = admin.site.password_change(request)
    if request.method == "POST" and response.status_code == 302:
        user = cast(User, request.user)
        LogEntry.objects.log_actions(user.pk, [user], CHANGE, "Changed their password.")
    return response


# Included before the URLs of admin.site, because it replaces one of them.
urlpatterns = [path("password_change/", admin.site.admin_view(change_own_password, cacheable=True))]
