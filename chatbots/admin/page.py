"""What the pages of a chatbot's admin share."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from unfold.admin import ModelAdmin

from chatbots.conversation.visitor import Visitor
from chatbots.models import Chatbot
from logs.models import Conversation
from puffer.admin import DeletionSummary
from puffer.net import client_ip


class PageAdmin(DeletionSummary, ModelAdmin):
    deleted_with = {_lazy("golden questions"): Count("golden_questions")}

    def page(self, request: HttpRequest, template: str, title: str, context: dict[str, Any]) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": title, **context}
        return TemplateResponse(request, f"admin/chatbots/chatbot/{template}.html", context)

    def deletion_line(self, bot: Chatbot) -> str:
        return _("%(bot)s: its widget and its API calls stop, its conversations stay in the log") % {"bot": bot}

    def page_urls(self, *pages: tuple[str, Any, str]) -> list[URLPattern]:
        """Route, view and name of each; only who may sign in to the admin gets to see them."""
        return [
            path(route, self.admin_site.admin_view(view), name=f"chatbots_chatbot_{name}")
            for route, view, name in pages
        ]

    def bot_or_404(self, request: HttpRequest, object_id: str) -> Chatbot:
        bot = self.get_object(request, object_id)
        if bot is None:
            raise Http404
        return bot

    def bot_to_change(self, request: HttpRequest, object_id: str) -> Chatbot:
        bot = self.bot_or_404(request, object_id)
        if not self.has_change_permission(request, bot):
            raise PermissionDenied
        return bot

    def bot_to_view(self, request: HttpRequest, object_id: str) -> Chatbot:
        bot = self.bot_or_404(request, object_id)
        if not self.has_view_permission(request, bot):
            raise PermissionDenied
        return bot


def tester(request: HttpRequest) -> Visitor:
    """Who tries a chatbot from the admin: no limit holds them, and the log tells them from visitors."""
    return Visitor(
        user_id=request.user.pk,
        username=request.user.get_username(),
        ip_address=client_ip(request),
        source=Conversation.Source.PREVIEW,
    )
