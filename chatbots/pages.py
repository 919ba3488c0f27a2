"""The widget's loader at /embed.js, and a chatbot's page of its own at /chat/{id}/."""

import json
from collections.abc import Sequence

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.http import etag, require_safe

from chatbots.embed import LOADER, read_asset, version_of, widget_config
from chatbots.models import Chatbot
from chatbots.origins import read_pattern
from puffer.site_url import site_url

LOADER_SECONDS = 300  # that a browser may keep the loader, whose address has no version
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)


@require_safe
@etag(lambda request: f'"{version_of(LOADER)}"')
def loader(request: HttpRequest) -> HttpResponse:
    return HttpResponse(
        read_asset(LOADER),
        content_type="text/javascript; charset=utf-8",
        headers={
            "Cache-Control": f"public, max-age={LOADER_SECONDS}",
            "Access-Control-Allow-Origin": "*",  # for pages that ask for the integrity of scripts
            "Cross-Origin-Resource-Policy": "cross-origin",
        },
    )


@require_safe
@xframe_options_exempt
def chat_page(request: HttpRequest, bot_id: int) -> HttpResponse:
    """For a link, or for a frame on a site of the chatbot's list."""
    bot = Chatbot.objects.published().filter(pk=bot_id, enable_chat_page=True).first()
    if bot is None:
        raise Http404("There is no such page.")
    language = request.headers.get("Accept-Language", "").partition(",")[0]
    config = widget_config(bot, site_url(request), language) | {"popupEnabled": False}
    page = render(
        request, "chatbots/chat_page.html", {"config": config, "config_json": json.dumps(config, ensure_ascii=False)}
    )
    page["Content-Security-Policy"] = PAGE_POLICY + " ".join(frame_ancestors(bot))
    return page


def frame_ancestors(bot: Chatbot) -> Sequence[str]:
    """Who may frame the page, as a Content-Security-Policy writes it."""
    if bot.embed_allow_any_domain:
        return ["*"]
    sources = [source for domain in bot.embed_allowed_domains for source in frame_sources(domain)]
    return sources or ["'none'"]


def frame_sources(domain: str) -> list[str]:
    pattern = read_pattern(domain)
    host = f"[{pattern.host}]" if ":" in pattern.host else pattern.host
    place = ("*." if pattern.is_wildcard else "") + host + (f":{pattern.port}" if pattern.port else "")
    return [f"{scheme}://{place}" for scheme in sorted(pattern.schemes)]
