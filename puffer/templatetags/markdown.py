"""{% load markdown %} {{ text|markdown }}, and {% markdown text %} for one of many, which share a page's budget."""

from typing import Any

from django import template
from django.template import Context
from django.utils.safestring import SafeString, mark_safe

from puffer.text.markdown import Budget, render

register = template.Library()


@register.filter(name="markdown")
def one_text(text: str) -> SafeString:
    return mark_safe(render(text))  # noqa: S308  sanitised


@register.simple_tag(name="markdown", takes_context=True)
def one_of_many(context: Context, text: str) -> SafeString:
    of_the_page: Any = context.render_context
    return mark_safe(render(text, of_the_page.setdefault("markdown budget", Budget())))  # noqa: S308  sanitised
