"""The breadcrumbs in the heading of an admin page: the list, the row, and the page itself."""

from dataclasses import dataclass
from typing import Any

from django import template
from django.contrib import admin
from django.db.models import Model
from django.template import Context
from django.urls import reverse
from django.utils.text import capfirst

register = template.Library()


@dataclass(frozen=True)
class Step:
    name: str
    url: str = ""


@register.simple_tag(takes_context=True)
def trail(context: Context) -> list[Step]:
    """Return the breadcrumbs of the page, of which the last one is the page itself."""
    row = context.get("original") or context.get("object")
    row = row if isinstance(row, Model) else None
    opts = row._meta if row else context.get("opts")
    title = str(context.get("title") or "")
    if opts is None:
        return [Step(title)]
    pages = f"admin:{opts.app_label}_{opts.model_name}"
    steps = [Step(heading_of(opts), reverse(f"{pages}_changelist"))]
    if row:
        steps.append(Step(name_of(row), reverse(f"{pages}_change", args=[row.pk])))
    if "cl" not in context and not (row and context.get("change")):
        # Django's titles repeat the name of the row: "Change history: Shop".
        steps.append(Step(title.removesuffix(f": {row}")))
    return steps


def heading_of(opts: Any) -> str:
    """Return the heading of the model's list: the `heading` of its admin, or the model's name."""
    heading: str = getattr(admin.site._registry.get(opts.model), "heading", "")
    return heading or capfirst(opts.verbose_name_plural)


def name_of(row: Model) -> str:
    """Return the row's name, from the `name_of` of its admin, or str() of the row."""
    return getattr(admin.site._registry.get(type(row)), "name_of", str)(row)
