"""The playground: talk to a chatbot as its settings stand in the form, saved or not, and see what it did."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from unfold.decorators import action

from chatbots.admin.forms import TurnForm
from chatbots.admin.page import tester
from chatbots.admin.widget import WidgetAdmin
from chatbots.conversation.trace import TracedTurn, trace_turn
from chatbots.models import Chatbot
from logs.usage import PriceBook
from providers.registry import PROVIDERS
from providers.run_async import run_async
from vectorstores.retrieve import Passage

# The settings beside the conversation, which are changed most. All others come along as they are in the form.
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


class PlaygroundAdmin(WidgetAdmin):
    @action(description="Try it", icon="chat", url_path="try", permissions=["change"])
    def try_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """POST with a question: a turn. Without: the page, with settings that were typed elsewhere."""
        bot = self.bot_to_change(request, object_id)
        status = bot.status  # the saved one: the form is going to change the chatbot
        form_class = self.get_form(request, bot, change=True)
        form = form_class(request.POST if request.method == "POST" else None, instance=bot)
        if "question" in request.POST:
            return JsonResponse(self.turn(request, bot, form, TurnForm(request.POST), status))
        context = {
            "object": bot,
            "form": form,
            "turn_form": TurnForm(),
            "panel": [form[name] for name in PANEL],
            "unseen": [form[name] for name in form.fields if name not in PANEL],
            "unsaved": unsaved(form) if form.is_bound else "",
            "problems": problems_of(form),
            "choices": self.choices(request),
        }
        return self.page(request, "playground", "Playground", context)

    def turn(self, request: HttpRequest, bot: Chatbot, form: Any, asked: TurnForm, status: str) -> dict[str, Any]:
        """What the page makes of a turn. With `problems` nothing was asked."""
        problems = problems_of(form) + problems_of(asked)
        if status == Chatbot.Status.TRASH:
            problems.append("This chatbot is in the trash, where it answers nobody.")
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
        (passage, "in the prompt" if place < told else "no room for it in the prompt")
        for place, passage in enumerate(watched.found.search.passages)
    ]
