"""CORS: which websites a browser lets read the API's responses.

The widget's calls: the sites that the chatbot allows. All other calls: any site, because an API key protects them and
no cookie is sent. django-cors-headers asks within the event loop, where no query can be made, so a middleware reads the
chatbot first.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

from chatbots.guards.origins import InvalidOrigin, is_allowed, read_origin
from chatbots.models import Chatbot, live_bots
from puffer.api import ApiError, site_url

WIDGET_CALL = re.compile(r"/wp-json/aipkit/v1/chatbots/(\d{1,18})/([\w-]+)$", re.ASCII)
CONFIG_CALL = "embed-config"  # always readable: its error message says that the origin is refused


@async_only_middleware
def read_widget_bot(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Set `request.widget_bot` on the widget's calls, for allow_reading(); a middleware."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if call := WIDGET_CALL.match(request.path_info):
            request.widget_bot = await live_bots.get(call[1])  # type: ignore[attr-defined]
        return await get_response(request)

    return middleware


def allow_reading(sender: Any, request: HttpRequest, **_: Any) -> bool:
    """Return whether the request's origin may read the response; receiver of corsheaders' check_request_enabled."""
    call = WIDGET_CALL.match(request.path_info)
    if call is None:
        return request.path_info.startswith("/wp-json")
    if call[2] == CONFIG_CALL:
        return True
    bot: Chatbot | None = getattr(request, "widget_bot", None)
    return bot is not None and bot.is_published and allowed_origin(bot, request) is not None


def allowed_origin(bot: Chatbot, request: HttpRequest) -> str | None:
    """Return the normalized origin of a widget request, or None if the chatbot does not allow it.

    The chatbot's standalone page has this server's origin, and its GET requests carry no Origin header.
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
