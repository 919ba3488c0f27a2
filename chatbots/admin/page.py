"""The base of the admin's pages about chatbots."""

from typing import Any, cast

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views import View
from unfold.admin import ModelAdmin

from chatbots.conversation.visitor import Visitor
from chatbots.models import Chatbot
from logs.models import Conversation
from puffer.net import client_ip


class ChatbotPage(View):
    """A page about chatbots in addition to those of Django's admin. `model_admin` checks permissions."""

    route = ""  # relative to the list of chatbots; empty for pages that an action of ChatbotAdmin opens
    name = ""  # the URL's name without the prefix `chatbots_chatbot_`
    model_admin: Any = None

    @classmethod
    def url(cls, model_admin: ModelAdmin) -> URLPattern:
        view = model_admin.admin_site.admin_view(cls.as_view(model_admin=model_admin))
        return path(cls.route, view, name=f"chatbots_chatbot_{cls.name}")

    @classmethod
    def open(cls, model_admin: ModelAdmin, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """Return the page's response for a method of the ModelAdmin that has a URL of its own."""
        captured = {} if object_id is None else {"object_id": object_id}
        return cast(HttpResponse, cls.as_view(model_admin=model_admin)(request, **captured))

    def page(self, template: str, title: str, context: dict[str, Any]) -> HttpResponse:
        shared = {
            **self.model_admin.admin_site.each_context(self.request),
            "opts": self.model_admin.opts,
            "title": title,
        }
        return TemplateResponse(self.request, f"admin/chatbots/chatbot/{template}.html", shared | context)

    def bot_to_change(self, object_id: str) -> Chatbot:
        """Return the chatbot. Raise Http404, or PermissionDenied if the user may not change it."""
        bot = self.bot_or_404(object_id)
        if not self.model_admin.has_change_permission(self.request, bot):
            raise PermissionDenied
        return bot

    def bot_to_view(self, object_id: str) -> Chatbot:
        """Return the chatbot. Raise Http404, or PermissionDenied if the user may not see it."""
        bot = self.bot_or_404(object_id)
        if not self.model_admin.has_view_permission(self.request, bot):
            raise PermissionDenied
        return bot

    def bot_or_404(self, object_id: str) -> Chatbot:
        bot = self.model_admin.get_object(self.request, object_id)
        if bot is None:
            raise Http404
        return bot


def tester(request: HttpRequest) -> Visitor:
    """Return the user as a visitor without limits, whose turns the log marks as previews."""
    return Visitor(
        user_id=request.user.pk,
        username=request.user.get_username(),
        ip_address=client_ip(request),
        source=Conversation.Source.PREVIEW,
    )
