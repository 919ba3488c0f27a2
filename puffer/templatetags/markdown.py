"""A template filter that renders Markdown as sanitized HTML: {{ text|markdown }}."""

from django import template
from django.utils.safestring import SafeString, mark_safe

from puffer.text.markdown import render

register = template.Library()


@register.filter(name="markdown")
def render_markdown(text: str) -> SafeString:
    return mark_safe(render(text))  # noqa: S308  sanitized
