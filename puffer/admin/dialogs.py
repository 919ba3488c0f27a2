"""Buttons of an admin page that open a dialog before they act."""

from typing import Any

from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from unfold.dataclasses import ActionDialog
from unfold.forms import BaseDialogForm


def dialog(title: Any, description: Any, submit: Any, form_class: type[BaseDialogForm] | None = None) -> ActionDialog:
    """Return the dialog of unfold's action(). `submit` is the text of its button; without a form it only confirms."""
    return {"title": title, "description": description, "form_class": form_class, "form_submit_text": submit}


class DialogActions:
    """Pages with actions that open a dialog: a mixin for a ModelAdmin."""

    def saved(self: Any, request: HttpRequest, object_id: str) -> Any:
        """Return the row of the page. Raise Http404 if it was deleted."""
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        return row

    def page_of(self, row: Model) -> HttpResponse:
        """Redirect to the row's page. htmx sent the dialog's form and follows this header."""
        name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
        return HttpResponse(headers={"HX-Redirect": reverse(name, args=[row.pk])})
