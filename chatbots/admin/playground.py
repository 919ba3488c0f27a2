"""The playground: test a chatbot with the settings in the form, saved or not, and see the trace of each turn."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from chatbots.admin.answers import may_answer
from chatbots.admin.choices import choices
from chatbots.admin.forms import TurnForm
from chatbots.admin.page import ChatbotPage, tester
from chatbots.conversation.trace import TracedTurn, trace_turn
from chatbots.models import Chatbot
from logs.usage import PriceBook
from providers.registry import PROVIDERS
from providers.run_async import run_async

# The settings next to the conversation, because they are changed most often. The form sends the others unchanged.
PANEL = [
    "instructions",
    "provider",
    "model",
    "temperature",
    "max_completion_tokens",
    "reasoning_effort",
    "enable_vector_store",
    "vector_store_provider",
    "collections",
    "vector_store_top_k",
    "vector_store_confidence_threshold",
    "rewrite_questions",
    "reranker",
    "only_from_sources",
]


class PlaygroundPage(ChatbotPage):
    """The playground page. Each question that it posts is one turn."""

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_change(object_id)
        return self.playground(bot, self.form_of(bot, None))

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer a question, or show the page with the unsaved settings of the settings form."""
        bot = self.bot_to_change(object_id)
        status = bot.status  # the saved one, because the form changes the chatbot
        form = self.form_of(bot, request.POST)
        if "question" in request.POST:
            return JsonResponse(take_turn(request, bot, form, TurnForm(request.POST), status))
        return self.playground(bot, form)

    def form_of(self, bot: Chatbot, data: Any) -> Any:
        return self.model_admin.get_form(self.request, bot, change=True)(data, instance=bot)

    def playground(self, bot: Chatbot, form: Any) -> HttpResponse:
        context = {
            "object": bot,
            "form": form,
            "turn_form": TurnForm(),
            "panel": [form[name] for name in PANEL],
            "unseen": [form[name] for name in form.fields if name not in PANEL],
            "unsaved": unsaved(form) if form.is_bound else "",
            "problems": problems_of(form),
            "choices": choices(self.request),
        }
        return self.page("playground", _("Playground"), context)


def take_turn(request: HttpRequest, bot: Chatbot, form: Any, turn_form: TurnForm, status: str) -> dict[str, Any]:
    """Take a turn and return its data for playground.js. With `problems`, the chatbot was not asked."""
    problems = problems_of(form) + problems_of(turn_form)
    if status == Chatbot.Status.TRASH:
        problems.append(_("This chatbot is in the trash, so it answers no one."))
    if problems:
        return {"problems": problems}
    question, history = turn_form.cleaned_data["question"], turn_form.cleaned_data["history"]
    trace = run_async(
        lambda: trace_turn(
            bot,
            question,
            history=history,
            visitor=tester(request),
            conversation_uuid=str(turn_form.cleaned_data["conversation_uuid"] or ""),
        )
    )
    if trace.reply:
        reply = {"role": "assistant", "content": trace.reply.text}
        history = [*history, {"role": "user", "content": question}, reply]
    return {
        "problems": [],
        "failed": bool(trace.error),
        "history": history,
        "conversation_uuid": trace.conversation_uuid,
        "unsaved": unsaved(form),
        "html": render_to_string(
            "admin/chatbots/chatbot/turn.html", turn_context(trace, bot) | {"may_correct": may_answer(request)}
        ),
    }


def unsaved(form: Any) -> str:
    """Return the labels of the settings that differ from the saved ones."""
    return ", ".join(str(form[name].label) for name in form.changed_data)


def problems_of(form: Any) -> list[str]:
    return [f"{form[name].label}: {' '.join(errors)}" for name, errors in form.errors.items() if name in form.fields]


def turn_context(trace: TracedTurn, bot: Chatbot) -> dict[str, Any]:
    """Return the context of turn.html."""
    asking, found = trace.asking, trace.found
    return {
        "turn": trace,
        "bot": bot,
        "provider": PROVIDERS[asking.provider].label if asking else "",
        "cost": trace.cost(PriceBook()),
        "prompt": asking.prompt if asking else None,
        "search": found.search if found else None,
        "rewrite": found.rewrite if found else None,
        "passages": passages_of(trace),
        "order_before": order_before(trace),
        "threshold": bot.vector_store_confidence_threshold,
    }


def passages_of(trace: TracedTurn) -> list[dict[str, Any]]:
    """Return the passages that were found, best first, each with whether the prompt contains it, or why not."""
    if trace.found is None or trace.found.search is None:
        return []
    search = trace.found.search
    in_prompt = len(trace.found.passages)  # the best ones, as many as the prompt has room for
    rows = [{"passage": passage, "is_in_prompt": place < in_prompt} for place, passage in enumerate(search.passages)]
    for row in rows:
        row["use"] = _("in the prompt") if row["is_in_prompt"] else _("left out of the prompt for lack of room")
    below = _("below the threshold")
    return rows + [{"passage": passage, "is_in_prompt": False, "use": below} for passage in search.too_far]


def order_before(trace: TracedTurn) -> list[dict[str, Any]]:
    """Return the passages that were reranked, in the order of the search, each with its new place from 1, or None."""
    search = trace.found.search if trace.found else None
    if search is None or search.reranking is None or search.reranking.failure:
        return []
    after = {id(passage): place for place, passage in enumerate(search.passages, start=1)}
    return [{"passage": passage, "place": after.get(id(passage))} for passage in search.reranking.before]
