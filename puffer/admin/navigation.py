"""The admin's sidebar, built from the `menu` that each ModelAdmin declares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db.models import TextChoices
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _


class Section(TextChoices):
    """The sections of the sidebar, top to bottom."""

    MAIN = "main", ""
    KNOWLEDGE = "knowledge", _("Knowledge")
    ACTIVITY = "activity", _("Activity")
    ACCESS = "access", _("Access")


@dataclass(frozen=True)
class MenuItem:
    """An item of the sidebar. It links to the list of the ModelAdmin's model, unless it has a `url_name`."""

    section: Section
    order: int  # within the section
    icon: str  # a name from https://fonts.google.com/icons
    title: str | Promise = ""  # the model's plural name if empty
    url_name: str = ""
    may_open: Callable[[Any, HttpRequest], bool] = lambda model_admin, request: model_admin.has_view_permission(request)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sections with the items that the user may open, as unfold's SIDEBAR setting expects them."""
    items = [
        (item, model_admin)
        for model_admin in admin.site._registry.values()
        for item in menu_of(model_admin)
        if item.may_open(model_admin, request)
    ]
    items.sort(key=lambda entry: entry[0].order)
    links = {item: link_of(item, model_admin) for item, model_admin in items}
    open_link = max((link for link in links.values() if request.path.startswith(link)), key=len, default="")
    groups: dict[Section, list[dict[str, Any]]] = {section: [] for section in Section}
    for item, model_admin in items:
        groups[item.section].append(
            {
                "title": item.title or capfirst(model_admin.opts.verbose_name_plural),
                "icon": item.icon,
                "link": links[item],
                "active": links[item] == open_link,
            }
        )
    return [{"title": section.label, "items": group} for section, group in groups.items() if group]


def menu_of(model_admin: Any) -> Sequence[MenuItem]:
    return getattr(model_admin, "menu", ())


def link_of(item: MenuItem, model_admin: Any) -> str:
    opts = model_admin.opts
    return reverse(item.url_name or f"admin:{opts.app_label}_{opts.model_name}_changelist")
