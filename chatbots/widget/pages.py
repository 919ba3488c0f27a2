"""The widget's files, its loader at /embed.js, and a chatbot's standalone page at /chat/{id}/."""

import json
from collections.abc import Sequence
from pathlib import PurePath

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.http import conditional_page, require_safe

from chatbots.guards.origins import read_pattern
from chatbots.models import Chatbot
from chatbots.widget.config import LOADER, SCRIPT, STYLES, version_of, widget_config
from chatbots.widget.content_coding import encoded_asset, preferred_coding
from puffer.api import site_url

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
LOADER_SECONDS = 300  # for which browsers may cache the loader, whose address has no version
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: data:; "
    "require-trusted-types-for 'script'; trusted-types puffer; base-uri 'none'; form-action 'none'; frame-ancestors "
)


@require_safe
@conditional_page
def loader(request: HttpRequest) -> HttpResponse:
    return file_for_any_site(request, LOADER, f"public, max-age={LOADER_SECONDS}")


@require_safe
@conditional_page
def widget_file(request: HttpRequest, version: str, name: str) -> HttpResponse:
    """Return the current script or styles, whatever `version` is. Caches keep them only if the version matches."""
    if name not in (SCRIPT, STYLES):
        raise Http404("There is no such file.")
    cache_control = "public, max-age=31536000, immutable" if version == version_of(name) else "no-cache"
    return file_for_any_site(request, name, cache_control)


def file_for_any_site(request: HttpRequest, name: str, cache_control: str) -> HttpResponse:
    coding = preferred_coding(request.headers.get("Accept-Encoding", ""))
    response = HttpResponse(
        encoded_asset(name, coding),
        content_type=f"{MEDIA_TYPES[PurePath(name).suffix]}; charset=utf-8",
        headers={
            "Cache-Control": cache_control,
            "ETag": f'W/"{version_of(name)}"',  # weak: the same for every content coding
            "Vary": "Accept-Encoding",
            "Access-Control-Allow-Origin": "*",  # modules and styles are read by the pages of other sites
            "Cross-Origin-Resource-Policy": "cross-origin",
        },
    )
    if coding != "identity":
        response["Content-Encoding"] = coding
    return response


@require_safe
@xframe_options_exempt
def chat_page(request: HttpRequest, bot_id: int) -> HttpResponse:
    """Return the standalone page, to link to, or to frame on one of the chatbot's allowed sites."""
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
    """Return the sites that may frame the page, in Content-Security-Policy syntax."""
    if bot.embed_allow_any_domain:
        return ["*"]
    sources = [source for domain in bot.embed_allowed_domains for source in frame_sources(domain)]
    return sources or ["'none'"]


def frame_sources(domain: str) -> list[str]:
    pattern = read_pattern(domain)
    host = f"[{pattern.host}]" if ":" in pattern.host else pattern.host
    place = ("*." if pattern.is_wildcard else "") + host + (f":{pattern.port}" if pattern.port else "")
    return [f"{scheme}://{place}" for scheme in sorted(pattern.schemes)]
