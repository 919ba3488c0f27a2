"""Which sites a browser lets read the API's answers.

The widget's calls: those that the chatbot allows. All others: any, for what protects them is the API key, and no
cookie takes part. What django-cors-headers asks is answered here; it asks within the event loop, so the chatbot is read
before.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

from chatbots.guards.origins import InvalidOrigin, is_allowed, read_origin
from chatbots.models import Chatbot
from puffer.api import ApiError, site_url
from puffer.runtime import LiveCache

WIDGET_CALL = re.compile(r"/wp-json/aipkit/v1/chatbots/(\d{1,18})/([\w-]+)$", re.ASCII)
CONFIG_CALL = "embed-config"  # says itself, in words, that an origin is refused


async def _read_published(bot_id: str) -> Chatbot | None:
    return await Chatbot.objects.published().filter(pk=int(bot_id)).afirst()


published_bots = LiveCache(_read_published)


@async_only_middleware
def read_widget_bot(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Middleware: the chatbot of a widget's call, for the question that django-cors-headers is going to ask."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if call := WIDGET_CALL.match(request.path_info):
            request.widget_bot = await published_bots.get(call[1])  # type: ignore[attr-defined]
        return await get_response(request)

    return middleware


def answer_may_be_read(sender: Any, request: HttpRequest, **_: Any) -> bool:
    """Receiver of corsheaders.signals.check_request_enabled."""
    call = WIDGET_CALL.match(request.path_info)
    if call is None:
        return request.path_info.startswith("/wp-json")
    if call[2] == CONFIG_CALL:
        return True
    bot = getattr(request, "widget_bot", None)
    return bot is not None and allowed_origin(bot, request) is not None


def allowed_origin(bot: Chatbot, request: HttpRequest) -> str | None:
    """The origin that a request of the widget comes from, normalised; None if the chatbot does not allow it.

    The chatbot's page on this server has ours, and sends none with GET.
    """
    own = own_origin(request) if bot.enable_chat_page else None
    given = request.META.get("HTTP_ORIGIN")
    if given is None:
        return own
    try:
        origin = str(read_origin(given))
    except InvalidOrigin:
        origin = given[:200]
    allowed = is_allowed(given, bot.embed_allowed_domains, any_domain=bot.embed_allow_any_domain)
    return origin if allowed or origin == own else None


def own_origin(request: HttpRequest) -> str | None:
    try:
        return str(read_origin(site_url(request)))
    except (InvalidOrigin, ApiError):
        return None
