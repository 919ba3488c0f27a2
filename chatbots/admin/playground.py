"""The playground: talk to a chatbot as its settings stand in the form, saved or not, and see what it did."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from chatbots.admin.choices import choices
from chatbots.admin.forms import TurnForm
from chatbots.admin.page import ChatbotPage, tester
from chatbots.conversation.trace import TracedTurn, trace_turn
from chatbots.models import Chatbot
from logs.usage import PriceBook
from providers.registry import PROVIDERS
from providers.run_async import run_async
from vectorstores.retrieve import Passage

# The settings shown next to the conversation, because they change most. The form sends all others unchanged.
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
    "only_from_sources",
]


class PlaygroundPage(ChatbotPage):
    """Shows the playground, and takes a turn for each question that the page posts."""

    def get(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.bot_to_change(object_id)
        return self.playground(bot, self.form_of(bot, None))

    def post(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer a question, or show the page with the settings of a form that was filled in elsewhere."""
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
        return self.page("playground", "Playground", context)


def take_turn(request: HttpRequest, bot: Chatbot, form: Any, asked: TurnForm, status: str) -> dict[str, Any]:
    """Return what the page shows of a turn. With `problems`, nothing was asked."""
    problems = problems_of(form) + problems_of(asked)
    if status == Chatbot.Status.TRASH:
        problems.append("This chatbot is in the trash, so it answers no one.")
    if problems:
        return {"problems": problems}
    question, history = asked.cleaned_data["question"], asked.cleaned_data["history"]
    watched = run_async(
        lambda: trace_turn(
            bot,
            question,
            history=history,
            visitor=tester(request),
            conversation_uuid=str(asked.cleaned_data["conversation_uuid"] or ""),
        )
    )
    if watched.reply:
        said = {"role": "assistant", "content": watched.reply.text}
        history = [*history, {"role": "user", "content": question}, said]
    return {
        "problems": [],
        "failed": bool(watched.error),
        "history": history,
        "conversation_uuid": watched.conversation_uuid,
        "unsaved": unsaved(form),
        "html": render_to_string("admin/chatbots/chatbot/turn.html", shown(watched, bot)),
    }


def unsaved(form: Any) -> str:
    """The settings that differ from what is saved, by their labels."""
    return ", ".join(str(form[name].label) for name in form.changed_data)


def problems_of(form: Any) -> list[str]:
    return [f"{form[name].label}: {' '.join(errors)}" for name, errors in form.errors.items() if name in form.fields]


def shown(watched: TracedTurn, bot: Chatbot) -> dict[str, Any]:
    """A turn as turn.html shows it."""
    asking, found = watched.asking, watched.found
    search = found.search if found else None
    return {
        "turn": watched,
        "provider": PROVIDERS[asking.provider].label if asking else "",
        "cost": watched.cost(PriceBook()),
        "prompt": asking.prompt if asking else None,
        "search": search,
        "found": [*passages_of(watched), *((passage, "below the threshold") for passage in search.too_far)]
        if search
        else [],
        "threshold": bot.vector_store_confidence_threshold,
    }


def passages_of(watched: TracedTurn) -> list[tuple[Passage, str]]:
    """Those that reached the threshold, and what became of each."""
    assert watched.found
    assert watched.found.search
    told = len(watched.found.passages)  # the first ones: of the rest the model has no room for
    return [
        (passage, "in the prompt" if place < told else "left out of the prompt for lack of room")
        for place, passage in enumerate(watched.found.search.passages)
    ]
