"""The widget in the admin: the live preview, the snippet, the sites it works on and the standalone page."""

import json
from collections.abc import Sequence
from copy import copy
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.clickjacking import xframe_options_sameorigin

from chatbots.admin.forms import ChatbotForm
from chatbots.admin.page import ChatbotPage
from chatbots.guards.origins import DEFAULT_PORTS, InvalidOrigin, Origin, is_ip, read_pattern
from chatbots.models import Chatbot
from chatbots.models.limits import MAX_DOMAINS
from chatbots.widget.config import snippet, widget_config
from chatbots.widget.pages import PAGE_POLICY, chat_page
from puffer.api import path_below_site, requested_url

MAX_LINE = 300  # characters shown of an entry of the allowed domains


@method_decorator(xframe_options_sameorigin, name="dispatch")
class PreviewPage(ChatbotPage):
    """The page in the preview's frame. GET shows the saved widget, POST returns the config for the form's settings."""

    route = "<path:object_id>/preview/"
    name = "preview"

    def dispatch(self, request: HttpRequest, object_id: str | None = None) -> Any:
        may_edit = self.model_admin.has_add_permission(request)
        self.bot = Chatbot()
        if object_id:
            self.bot = self.bot_to_view(object_id)
            may_edit = self.model_admin.has_change_permission(request, self.bot)
        if not may_edit and (request.method == "POST" or not self.model_admin.has_view_permission(request)):
            raise PermissionDenied
        return super().dispatch(request)

    def get(self, request: HttpRequest) -> HttpResponse:
        config = preview_config(request, self.bot)
        context = {"config": config, "config_json": json.dumps(config, ensure_ascii=False)}
        page = render(request, "admin/chatbots/chatbot/preview.html", context)
        page["Content-Security-Policy"] = PAGE_POLICY + "'self'"
        return page

    def post(self, request: HttpRequest) -> HttpResponse:
        is_saved = self.bot.pk is not None
        form_class = self.model_admin.get_form(request, self.bot if is_saved else None, change=is_saved)
        saved = copy(self.bot)
        form = form_class(request.POST, instance=self.bot)
        refused = [str(form.fields[name].label) for name in form.errors if name in form.fields]
        return JsonResponse({"config": preview_config(request, draft(form, saved)), "refused": refused})


class NewPreviewPage(PreviewPage):
    """The preview of a chatbot that has not been saved yet."""

    route = "preview/"


class AllowedSitesPage(ChatbotPage):
    """The explanation of the allowed domains in a form that is being edited, as HTML."""

    route = "allowed-sites/"
    name = "allowed_sites"

    def post(self, request: HttpRequest) -> HttpResponse:
        if not (self.model_admin.has_add_permission(request) or self.model_admin.has_change_permission(request)):
            raise PermissionDenied
        lines = ChatbotForm.base_fields["embed_allowed_domains"].clean(request.POST.get("embed_allowed_domains"))
        context = sites_context(lines, any_domain="embed_allow_any_domain" in request.POST)
        return render(request, "admin/chatbots/chatbot/allowed_sites.html", context)


def allowed_sites_html(bot: Chatbot) -> SafeString:
    return format_html(
        '<div id="allowed-sites" data-url="{}" data-failure="{}" aria-live="polite">{}</div>',
        reverse("admin:chatbots_chatbot_allowed_sites"),
        _("The server cannot be reached at the moment."),
        render_to_string(
            "admin/chatbots/chatbot/allowed_sites.html",
            sites_context(bot.embed_allowed_domains, any_domain=bot.embed_allow_any_domain),
        ),
    )


def snippet_html(bot: Chatbot, site: str) -> SafeString:
    return render_to_string(
        "admin/chatbots/chatbot/snippet.html", {"bot": bot, "snippet": snippet(bot, site), "site": site}
    )


def chat_page_html(bot: Chatbot, site: str) -> str:
    address = site + path_below_site(chat_page, bot.pk)
    if not bot.enable_chat_page or bot.status != Chatbot.Status.PUBLISHED:
        return _("%(address)s, once the chatbot is published and the page is turned on and saved.") % {
            "address": address
        }
    return format_html('<a class="text-link" href="{0}" target="_blank" rel="noopener">{0}</a>', address)


def draft(form: Any, saved: Chatbot) -> Chatbot:
    """Return the chatbot with the valid values of the bound form, and the saved values of invalid fields."""
    for name in form.errors:
        if name in form.fields:
            setattr(form.instance, name, getattr(saved, name))
    return form.instance


def preview_config(request: HttpRequest, bot: Chatbot) -> dict[str, Any]:
    """Return the widget's config for the host that serves the admin, because the frame may load from no other."""
    return widget_config(bot, requested_url(request)) | {"preview": True}


def sites_context(domains: Sequence[str], *, any_domain: bool) -> dict[str, Any]:
    lines = [{"line": line[:MAX_LINE], **explain(line)} for line in domains[:MAX_DOMAINS]]
    return {"lines": lines, "any_domain": any_domain}


def explain(line: str) -> dict[str, str]:
    try:
        return {"sites": sites_of(line)}
    except InvalidOrigin as problem:
        return {"problem": str(problem)}


def sites_of(line: str) -> str:
    """Describe the sites that an entry of the allowed domains covers, as browsers name them. Raise InvalidOrigin."""
    pattern = read_pattern(line)
    schemes = sorted(pattern.schemes, reverse=True)  # https before http

    def origins(host: str, schemes: Sequence[str] = schemes) -> str:
        names = [str(Origin(scheme, host, pattern.port or DEFAULT_PORTS[scheme])) for scheme in schemes]
        return names[0] if len(names) == 1 else _("%(one)s and %(other)s") % {"one": names[0], "other": names[1]}

    if pattern.is_wildcard:
        example = origins(f"www.{pattern.host}")
        return _("all below %(host)s, such as %(example)s; not %(host)s itself") % {
            "host": pattern.host,
            "example": example,
        }
    others = [origins(pattern.host, sorted(DEFAULT_PORTS.keys() - pattern.schemes))] if len(schemes) == 1 else []
    if "." in pattern.host and not is_ip(pattern.host):
        others.append(pattern.host.removeprefix("www.") if pattern.host.startswith("www.") else f"www.{pattern.host}")
    if not others:
        return origins(pattern.host)
    excluded = others[0] if len(others) == 1 else _("%(one)s or %(other)s") % {"one": others[0], "other": others[1]}
    return _("%(sites)s; not %(others)s") % {"sites": origins(pattern.host), "others": excluded}
