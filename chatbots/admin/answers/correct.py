"""The page that corrects an answer: what the chatbot said and found, the right answer, and the new reply to it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext

from chatbots.admin.answers.forms import AnswerForm
from chatbots.admin.answers.unanswered import days_asked, group_with, may_answer
from chatbots.admin.page import ChatbotPage, tester
from chatbots.models import Chatbot, SettledQuestion
from chatbots.quality.answers import (
    LoggedReply,
    add_answer,
    ask_again,
    delete_replaced,
    earlier_answers,
    found_passages,
    logged_reply,
    settle,
)
from chatbots.quality.unanswered import Group, digest_of
from providers.run_async import run_async
from puffer.api import ApiError
from vectorstores.documents import read


class AnswerPage(ChatbotPage):
    """Store the right answer to a question, then show the new reply beside the old one.

    The query contains the digest of the unanswered `question`, the id of the `message` to correct, and that of the new
    `reply`.
    """

    route = "<path:object_id>/unanswered/answer/"
    name = "answer_question"

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_answer_for(object_id)
        old = self.reply_in_query(bot, "message")
        if new := self.reply_in_query(bot, "reply"):
            return self.result_page(bot, old, new)
        group = group_with(bot, days_asked(request), request.GET.get("question", ""))
        initial, is_known = self.initial(bot, group, old)
        return self.form_page(bot, AnswerForm(initial=initial, bot=bot), old, group, is_known=is_known)

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Store an answer and ask the question again, or only ask it again."""
        bot = self.bot_to_answer_for(object_id)
        old = self.reply_in_query(bot, "message")
        if "again" in request.POST and (asked := old or self.reply_in_query(bot, "reply")):
            return self.ask(bot, asked.question, asked.history)
        form = AnswerForm(request.POST, bot=bot)
        if not form.is_valid():
            return self.form_page(bot, form, old)
        values, user = form.cleaned_data, cast(User, request.user)
        digests = [*form.digests(), *([digest_of(old.question)] if old else []), digest_of(values["question"])]
        earlier = list(earlier_answers(bot, digests, values["question"]))
        try:
            document_id = add_answer(bot, values["collection"], values["question"], values["answer"], values["url"])
        except ApiError as error:
            return self.form_page(bot, form, old, problem=error.message)
        settle(bot, digests, user, document_id)
        self.model_admin.log_change(request, bot, f"Answered a question: {document_id} in {values['collection']}.")
        text = gettext("The answer was added to %(collection)s. The chatbot uses it from now on.")
        messages.success(request, text % {"collection": values["collection"]})
        if user.has_perm("vectorstores.delete_document"):
            for reason in delete_replaced(earlier, values["collection"], document_id):
                messages.error(request, gettext("The earlier answer was not deleted. %(reason)s") % {"reason": reason})
        return self.ask(bot, old.question if old else values["question"], old.history if old else [])

    def ask(self, bot: Chatbot, question: str, history: Sequence[Mapping[str, Any]]) -> HttpResponse:
        """Ask the question again and redirect to the result; to the list if that is not possible."""
        if not self.model_admin.has_change_permission(self.request, bot) or bot.status == Chatbot.Status.TRASH:
            return HttpResponseRedirect(self.list_url(bot))
        trace = ask_again(bot, question, history, tester(self.request))
        if not trace.reply_id:
            text = gettext("The question was not asked again. %(reason)s") % {"reason": trace.error}
            messages.error(self.request, text)
            return HttpResponseRedirect(self.list_url(bot))
        return HttpResponseRedirect(self.url_with(bot, reply=trace.reply_id))

    def bot_to_answer_for(self, object_id: str) -> Chatbot:
        bot = self.bot_to_view(object_id)
        if not may_answer(self.request):
            raise PermissionDenied
        return bot

    def reply_in_query(self, bot: Chatbot, name: str) -> LoggedReply | None:
        message_id = self.request.GET.get(name, "")
        return logged_reply(bot, message_id) if message_id else None

    def initial(self, bot: Chatbot, group: Group | None, old: LoggedReply | None) -> tuple[dict[str, str], bool]:
        """Return the initial values of the form, and whether they are those of an earlier answer."""
        question = " ".join((group.text if group else old.question if old else "").split())[:500]
        if not question:
            return {}, False
        digests = group.digests if group else digest_of(question)
        initial = {"question": question, "questions": digests}
        earlier = earlier_answers(bot, digests.split(","), question).order_by("-updated_at").first()
        if earlier is None:
            return initial, False
        try:
            stored = run_async(lambda: read(earlier))
        except ApiError:  # the store is unreachable, which saving will say
            return initial, False
        known = {"question": earlier.title, "answer": stored.text, "url": stored.url}
        return initial | known | {"collection": earlier.collection.name}, True

    def form_page(
        self,
        bot: Chatbot,
        form: AnswerForm,
        old: LoggedReply | None,
        group: Group | None = None,
        *,
        problem: str = "",
        is_known: bool = False,
    ) -> HttpResponse:
        context = {
            **self.shared(bot, old),
            "form": form,
            "group": group,
            "problem": problem,
            "is_known": is_known,
            "asks_again": self.model_admin.has_change_permission(self.request, bot),
        }
        return self.page("answer_question", gettext("Correct an answer") if old else gettext("Add an answer"), context)

    def result_page(self, bot: Chatbot, old: LoggedReply | None, new: LoggedReply) -> HttpResponse:
        passages = found_passages(new.message)
        settled = SettledQuestion.objects.filter(chatbot=bot, digest=digest_of(new.question)).first()
        answer_id = settled.document_id if settled else ""
        context = {
            **self.shared(bot, old),
            "new": new,
            "new_passages": passages,
            "uses_answer": bool(answer_id) and answer_id in [passage.document_id for passage in passages],
            "form_url": self.url_with(bot, reply=""),
            "may_ask": self.model_admin.has_change_permission(self.request, bot),
        }
        return self.page("corrected_answer", gettext("The new answer"), context)

    def shared(self, bot: Chatbot, old: LoggedReply | None) -> dict[str, Any]:
        return {
            "object": bot,
            "old": old,
            "old_passages": found_passages(old.message) if old else [],
            "back": self.list_url(bot),
        }

    def list_url(self, bot: Chatbot) -> str:
        return reverse("admin:chatbots_chatbot_unanswered", args=[bot.pk], query={"days": days_asked(self.request)})

    def url_with(self, bot: Chatbot, **changes: str) -> str:
        """Return the URL of this page with a changed query."""
        query = {name: self.request.GET.get(name, "") for name in ("days", "question", "message", "reply")} | changes
        given = {name: value for name, value in query.items() if value}
        return reverse("admin:chatbots_chatbot_answer_question", args=[bot.pk], query=given)
