"""Warnings about settings that silently weaken a chatbot's protection, on the dashboard and in its form."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from chatbots.models import Chatbot
from providers.models import ProviderConfig
from providers.registry import is_configured

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")  # set by proxies
MAX_NAMED = 10  # chatbots in a warning


def can_moderate() -> bool:
    return is_configured(ProviderConfig.objects.filter(slug="openai").first() or ProviderConfig(slug="openai"))


def moderation_state(bot: Chatbot) -> str:
    """Describe whether the chatbot's questions are moderated, for its form."""
    if not bot.openai_moderation_enabled:
        return _("Off.")
    if can_moderate():
        return _("On.")
    if bot.openai_moderation_required:
        return _("OpenAI has no valid API key: every question is blocked. Enter a key on the Providers page.")
    return _("OpenAI has no valid API key: no question is moderated. Enter a key on the Providers page.")


def add_warnings(request: HttpRequest) -> None:
    """Add the warnings that concern the user as messages of the page."""
    if request.user.has_perm("chatbots.change_chatbot") and (warning := moderation_warning()):
        messages.warning(request, warning)
    if request.user.has_perm("puffer.change_apikey") and is_behind_unknown_proxy(request):
        messages.warning(
            request,
            _(
                "This page came through a proxy, but TRUSTED_PROXY_COUNT is 0: all visitors share the proxy's address,"
                " its limits and its bans. Set TRUSTED_PROXY_COUNT to the number of your proxies."
            ),
        )


def moderation_warning() -> SafeString | None:
    bots = Chatbot.objects.published().filter(openai_moderation_enabled=True)[:MAX_NAMED]
    if not bots or can_moderate():
        return None
    links = format_html_join(
        ", ",
        '<a class="text-link" href="{}">{}</a>',
        ((reverse("admin:chatbots_chatbot_change", args=[bot.pk]), bot.name) for bot in bots),
    )
    text = _("OpenAI has no valid API key, so the questions to these chatbots are not moderated:")
    return format_html("{} {}", text, links)


def is_behind_unknown_proxy(request: HttpRequest) -> bool:
    return not settings.TRUSTED_PROXY_COUNT and any(name in request.META for name in FORWARDED)
