"""The widget in the admin: a live preview of it, the snippet, which sites it works on, and the identity secret."""

import json
from collections.abc import Sequence
from copy import copy
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet, Value
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import URLPattern, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_POST
from unfold.decorators import action

from chatbots.admin.choices import ChoicesAdmin
from chatbots.admin.forms import LAYOUT, ChatbotForm
from chatbots.guards.origins import DEFAULT_PORTS, InvalidOrigin, Origin, is_ip, read_pattern
from chatbots.models import Chatbot
from chatbots.models.limits import MAX_DOMAINS, new_identity_secret
from chatbots.widget.config import snippet, widget_config
from chatbots.widget.pages import PAGE_POLICY, chat_page
from puffer.api import site_url

MAX_LINE = 300  # characters shown of a line of the list


class WidgetAdmin(ChoicesAdmin):
    form = ChatbotForm
    fieldsets = LAYOUT
    readonly_fields = ["allowed_sites", "snippet", "chat_page", "identity"]
    compressed_fields = False
    change_form_outer_after_template = "admin/chatbots/chatbot/preview_pane.html"

    def get_urls(self) -> list[URLPattern]:
        ours = self.page_urls(
            ("preview/", self.preview, "preview"),
            ("<path:object_id>/preview/", self.preview, "preview"),
            ("allowed-sites/", self.explain_domains, "allowed_sites"),
        )
        return ours + super().get_urls()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Chatbot]:
        """With the address that snippet and page are shown with."""
        return super().get_queryset(request).annotate(site=Value(site_url(request)))

    def get_fieldsets(self, request: HttpRequest, obj: Chatbot | None = None) -> list[Any]:
        hidden: set[str | tuple[str, ...]] = set()
        if obj is None:
            hidden = {"snippet", "chat_page", "identity"}
        elif not self.has_change_permission(request, obj):
            hidden = {"identity"}
        return [
            (name, {**options, "fields": [field for field in options["fields"] if field not in hidden]})
            for name, options in LAYOUT
        ]

    # Where it may be used

    @admin.display(description="which sites these are")
    def allowed_sites(self, bot: Chatbot) -> SafeString:
        return format_html(
            '<div id="allowed-sites" data-url="{}" aria-live="polite">{}</div>',
            reverse("admin:chatbots_chatbot_allowed_sites"),
            render_to_string(
                "admin/chatbots/chatbot/allowed_sites.html",
                sites_context(bot.embed_allowed_domains, any_domain=bot.embed_allow_any_domain),
            ),
        )

    @method_decorator(require_POST)
    def explain_domains(self, request: HttpRequest) -> HttpResponse:
        """What the list of a form that is being edited stands for, as HTML."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        lines = ChatbotForm.base_fields["embed_allowed_domains"].clean(request.POST.get("embed_allowed_domains"))
        context = sites_context(lines, any_domain="embed_allow_any_domain" in request.POST)
        return render(request, "admin/chatbots/chatbot/allowed_sites.html", context)

    @admin.display(description="snippet")
    def snippet(self, bot: Any) -> SafeString:
        return render_to_string(
            "admin/chatbots/chatbot/snippet.html", {"bot": bot, "snippet": snippet(bot, bot.site), "site": bot.site}
        )

    @admin.display(description="address of the page")
    def chat_page(self, bot: Any) -> str:
        address = bot.site + reverse(chat_page, args=[bot.pk])
        if not bot.enable_chat_page or bot.status != Chatbot.Status.PUBLISHED:
            return f"{address}, once the chatbot is published and its page switched on and saved."
        return format_html('<a class="text-link" href="{0}" target="_blank" rel="noopener">{0}</a>', address)

    # Who the visitor is

    @admin.display(description="identity secret")
    def identity(self, bot: Chatbot) -> SafeString:
        return render_to_string("admin/chatbots/chatbot/identity.html", {"secret": bot.identity_secret})

    @action(
        description="New identity secret",
        icon="key",
        url_path="new-identity-secret",
        permissions=["change"],
        dialog={
            "title": "Make a new identity secret?",
            "description": "All sessions of the widget end, and nobody is identified until your server signs with the "
            "new secret. The old one is gone for good.",
            "form_class": None,
            "form_submit_text": "Make a new one",
        },
    )
    def renew_identity_secret(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        bot = self.get_object(request, object_id)
        if bot is None:
            raise Http404
        bot.identity_secret = new_identity_secret()
        bot._change_reason = "New identity secret."
        bot.save(update_fields=["identity_secret", "updated_at"])
        self.log_change(request, bot, "New identity secret.")
        messages.success(request, "The chatbot has a new identity secret. Give it to your server.")
        page = reverse("admin:chatbots_chatbot_change", args=[bot.pk])
        return HttpResponse(headers={"HX-Redirect": page})  # the dialog's form is sent by htmx, which follows this

    # Preview

    @method_decorator(xframe_options_sameorigin)
    def preview(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """GET: a page for the preview's frame, with the widget as it is saved. POST: what the form would make of it."""
        bot = self.get_object(request, object_id) if object_id else Chatbot()
        if bot is None:
            raise Http404
        may_edit = self.has_change_permission(request, bot) if object_id else self.has_add_permission(request)
        if not may_edit and (request.method == "POST" or not self.has_view_permission(request, bot)):
            raise PermissionDenied
        if request.method == "POST":
            form_class = self.get_form(request, bot if object_id else None, change=bool(object_id))
            saved = copy(bot)
            form = form_class(request.POST, instance=bot)
            refused = [str(form.fields[name].label) for name in form.errors if name in form.fields]
            return JsonResponse({"config": preview_config(request, draft(form, saved)), "refused": refused})
        config = preview_config(request, bot)
        context = {"config": config, "config_json": json.dumps(config, ensure_ascii=False)}
        page = render(request, "admin/chatbots/chatbot/preview.html", context)
        page["Content-Security-Policy"] = PAGE_POLICY + "'self'"
        return page


def draft(form: Any, saved: Chatbot) -> Chatbot:
    """The chatbot of a bound form, with what is valid of it. What is not stays as it is saved."""
    for name in form.errors:
        if name in form.fields:
            setattr(form.instance, name, getattr(saved, name))
    return form.instance


def preview_config(request: HttpRequest, bot: Chatbot) -> dict[str, Any]:
    """From the host that the admin is seen at: the frame may load from no other."""
    return widget_config(bot, request.build_absolute_uri("/").rstrip("/")) | {"preview": True}


def sites_context(domains: Sequence[str], *, any_domain: bool) -> dict[str, Any]:
    lines = [{"line": line[:MAX_LINE], **explained(line)} for line in domains[:MAX_DOMAINS]]
    return {"lines": lines, "any_domain": any_domain}


def explained(line: str) -> dict[str, str]:
    try:
        return {"sites": sites_of(line)}
    except InvalidOrigin as problem:
        return {"problem": str(problem)}


def sites_of(line: str) -> str:
    """Which sites a line of the allowed domains stands for, as browsers name them. Raises InvalidOrigin."""
    pattern = read_pattern(line)
    schemes = sorted(pattern.schemes, reverse=True)  # https before http

    def named(host: str, schemes: Sequence[str] = schemes) -> str:
        return " and ".join(str(Origin(scheme, host, pattern.port or DEFAULT_PORTS[scheme])) for scheme in schemes)

    if pattern.is_wildcard:
        return f"all below {pattern.host}, such as {named(f'www.{pattern.host}')}; not {pattern.host} itself"
    others = [named(pattern.host, sorted(DEFAULT_PORTS.keys() - pattern.schemes))] if len(schemes) == 1 else []
    if "." in pattern.host and not is_ip(pattern.host):
        others.append(pattern.host.removeprefix("www.") if pattern.host.startswith("www.") else f"www.{pattern.host}")
    return named(pattern.host) + (f"; not {' or '.join(others)}" if others else "")
