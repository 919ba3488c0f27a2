"""The template filter for the display name of a provider: `{{ message.provider|provider_name }}`."""

from django import template

from logs.usage.provider_names import provider_name

register = template.Library()
register.filter("provider_name", provider_name)
