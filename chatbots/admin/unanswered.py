"""Unanswered questions in the admin: the overview, a chatbot's list, and the form that adds an answer."""

from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.core.validators import RegexValidator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminURLInputWidget

from chatbots.admin.page import ChatbotPage
from chatbots.models import Chatbot
from chatbots.quality.unanswered import Group, add_answer, digest_of, groups_of, open_questions, settle
from puffer.api import ApiError

PERIODS = [7, 30, 90]  # days
GROUPS_ON_A_PAGE = 20


class DismissForm(forms.Form):
    questions = forms.CharField(
        widget=forms.HiddenInput, validators=[RegexValidator(r"\A[0-9a-f]{64}(,[0-9a-f]{64}){0,999}\Z")]
    )

    def digests(self) -> list[str]:
        return [digest for digest in self.cleaned_data["questions"].split(",") if digest]


class AnswerForm(DismissForm):
    question = forms.CharField(
        label=_("Question"),
        max_length=500,
        help_text=_("The document's title. The same question again replaces its answer."),
        widget=UnfoldAdminTextareaWidget({"rows": 2}),
    )
    answer = forms.CharField(
        label=_("Answer"),
        max_length=50_000,
        help_text=_("The text that the model reads for questions like this one."),
        widget=UnfoldAdminTextareaWidget({"rows": 8, "autofocus": True}),
    )
    url = forms.URLField(
        label=_("Address"),
        required=False,
        max_length=2000,
        assume_scheme="https",
        help_text=_("A page with more details. Visitors see it as the source."),
        widget=UnfoldAdminURLInputWidget,
    )
    collection = forms.ChoiceField(label=_("Collection"), widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, bot: Chatbot, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["questions"].required = False  # the answer may be to a question that no visitor has asked yet
        self.fields["collection"].choices = [(name, name) for name in bot.collections]  # type: ignore[attr-defined]

    def clean_question(self) -> str:
        return " ".join(self.cleaned_data["question"].split())


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
            "may_answer": may_answer(self.model_admin, request),
        }
        return self.page("unanswered", gettext("Unanswered questions"), context)

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_view(object_id)
        if not may_answer(self.model_admin, request):
            raise PermissionDenied
        form = DismissForm(request.POST)
        if not form.is_valid():
            return self.get(request, object_id)
        settle(bot, form.digests(), cast(User, request.user))
        self.model_admin.log_change(request, bot, f"Dismissed unanswered questions: {len(form.digests())}.")
        messages.success(request, gettext("Dismissed. The questions will not be listed again."))
        return HttpResponseRedirect(request.get_full_path())


class AnswerPage(ChatbotPage):
    """The form that adds an answer to the chatbot's knowledge. The query contains the question's digest."""

    route = "<path:object_id>/unanswered/answer/"
    name = "answer_question"

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_answer_for(object_id)
        group = group_with(bot, days_asked(request), request.GET.get("question", ""))
        initial = {"question": " ".join(group.text.split())[:500], "questions": group.digests} if group else {}
        return self.form_page(bot, AnswerForm(initial=initial, bot=bot), group)

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_answer_for(object_id)
        form = AnswerForm(request.POST, bot=bot)
        if not form.is_valid():
            return self.form_page(bot, form)
        values = form.cleaned_data
        try:
            document_id = add_answer(bot, values["collection"], values["question"], values["answer"], values["url"])
        except ApiError as error:
            return self.form_page(bot, form, problem=error.message)
        settle(bot, [*form.digests(), digest_of(values["question"])], cast(User, request.user), document_id)
        self.model_admin.log_change(request, bot, f"Answered a question: {document_id} in {values['collection']}.")
        text = gettext("The answer was added to %(collection)s. The chatbot uses it from now on.")
        messages.success(request, text % {"collection": values["collection"]})
        return HttpResponseRedirect(self.list_url(bot))

    def bot_to_answer_for(self, object_id: str) -> Chatbot:
        bot = self.bot_to_view(object_id)
        if not may_answer(self.model_admin, self.request):
            raise PermissionDenied
        return bot

    def form_page(self, bot: Chatbot, form: AnswerForm, group: Group | None = None, problem: str = "") -> HttpResponse:
        context = {"object": bot, "form": form, "group": group, "problem": problem, "back": self.list_url(bot)}
        return self.page("answer_question", gettext("Add an answer"), context)

    def list_url(self, bot: Chatbot) -> str:
        return reverse("admin:chatbots_chatbot_unanswered", args=[bot.pk], query={"days": days_asked(self.request)})


def may_answer(model_admin: Any, request: HttpRequest) -> bool:
    return model_admin.has_unanswered_permission(request) and request.user.has_perm("vectorstores.add_document")


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
