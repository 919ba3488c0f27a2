"""Unanswered questions in the admin: the overview, and a chatbot's list."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext

from chatbots.admin.answers.forms import DismissForm
from chatbots.admin.page import ChatbotPage
from chatbots.models import Chatbot
from chatbots.quality.answers import settle
from chatbots.quality.unanswered import Group, groups_of, open_questions

PERIODS = [7, 30, 90]  # days
GROUPS_ON_A_PAGE = 20


class UnansweredOverviewPage(ChatbotPage):
    """The chatbots with their numbers of unanswered questions, the highest first."""

    route = "unanswered/"
    name = "unanswered_overview"

    def get(self, request: HttpRequest) -> HttpResponse:
        if not self.model_admin.has_unanswered_permission(request):
            raise PermissionDenied
        days = days_asked(request)
        rows = [(bot, open_questions(bot, days)) for bot in self.model_admin.get_queryset(request)]
        rows.sort(key=lambda row: -sum(len(question.turns) for question in row[1]))
        bots = [
            {
                "bot": bot,
                "questions": len(questions),
                "turns": sum(len(question.turns) for question in questions),
                "asked_at": max((question.asked_at for question in questions), default=None),
            }
            for bot, questions in rows
        ]
        context = {"bots": bots, "days": days, "periods": PERIODS}
        return self.page("unanswered_overview", gettext("Unanswered questions"), context)


class UnansweredPage(ChatbotPage):
    """A chatbot's unanswered questions in groups. POST dismisses a group."""

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_view(object_id)
        days = days_asked(request)
        groups, problem = groups_of(bot, open_questions(bot, days))
        page = Paginator(groups, GROUPS_ON_A_PAGE).get_page(request.GET.get("p"))
        context = {
            "object": bot,
            "page": page,
            "turns": sum(group.count for group in groups),
            "problem": problem,
            "days": days,
            "periods": PERIODS,
            "may_answer": may_answer(request),
        }
        return self.page("unanswered", gettext("Unanswered questions"), context)

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_view(object_id)
        if not may_answer(request):
            raise PermissionDenied
        form = DismissForm(request.POST)
        if not form.is_valid():
            return self.get(request, object_id)
        settle(bot, form.digests(), cast(User, request.user))
        self.model_admin.log_change(request, bot, f"Dismissed unanswered questions: {len(form.digests())}.")
        messages.success(request, gettext("Dismissed. The questions will not be listed again."))
        return HttpResponseRedirect(request.get_full_path())


def may_answer(request: HttpRequest) -> bool:
    """Return whether the user may read what visitors said and add answers to the knowledge."""
    return request.user.has_perms(["chatbots.view_chatbot", "logs.view_conversation", "vectorstores.add_document"])


def days_asked(request: HttpRequest) -> int:
    """Return how many days back to search."""
    days = request.GET.get("days", "")
    return int(days) if days in map(str, PERIODS) else PERIODS[-1]


def group_with(bot: Chatbot, days: int, digest: str) -> Group | None:
    if not digest:
        return None
    groups, _problem = groups_of(bot, open_questions(bot, days))
    found = (group for group in groups if any(question.digest == digest for question in group.questions))
    return next(found, None)
