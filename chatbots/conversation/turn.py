"""One turn of a conversation, from the question to the logged reply.

free checks -> limits -> moderation -> question rewrite (if set) -> search -> prompt -> provider -> log -> reply
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from chatbots.conversation.citations import Citations, source_numbers, without_marks
from chatbots.conversation.knowledge import KnowledgeUnavailable, search_knowledge
from chatbots.conversation.prompt import (
    SMALL_TALK_ONLY,
    build_prompt,
    expected_context,
    fit_passages,
    history_in_prompt,
    room_for,
)
from chatbots.conversation.rewrite import questions_to_search
from chatbots.conversation.search_questions import offer_in
from chatbots.conversation.small_talk import is_small_talk
from chatbots.conversation.sources import passages_for_log
from chatbots.conversation.turn_events import Asking, Found, Piece, Reply, Searching, Started, TurnEvent
from chatbots.conversation.visitor import Visitor
from chatbots.guards.limits import reserve
from chatbots.guards.moderation import moderate, refuse_banned
from chatbots.models import Chatbot
from logs.conversations import VISITOR_LEFT, Turn, log_turn
from logs.models import new_uuid
from providers.base import Capability, CompletionRequest, Provider, Usage
from providers.calls import ProviderCall, provider_call, streamed_call
from providers.registry import PROVIDERS, default_model, get_config, get_provider, is_configured, providers_with
from providers.tokens import context_window, estimate_usage
from puffer.api import ApiError, StorageFull
from puffer.runtime import in_thread_if_large, is_storage_full
from puffer.text import without_control_characters
from vectorstores.retrieval import Passage, Search


async def take_turn(
    bot: Chatbot,
    question: str,
    *,
    history: Sequence[Mapping[str, Any]],
    visitor: Visitor,
    conversation_uuid: str = "",
) -> Reply:
    """Answer `question` as `bot`, and log the turn, failed or not, before returning the reply.

    Raise ApiError if the turn is refused, or if the provider refuses or fails.
    """
    turn = follow_turn(
        bot, question, history=history, visitor=visitor, conversation_uuid=conversation_uuid, streamed=False
    )
    async with aclosing(turn):
        async for event in turn:
            if isinstance(event, Reply):
                return event
    raise AssertionError("a turn ends with its reply or raises")


async def follow_turn(
    bot: Chatbot,
    question: str,
    *,
    history: Sequence[Mapping[str, Any]],
    visitor: Visitor,
    conversation_uuid: str = "",
    streamed: bool = True,
) -> AsyncGenerator[TurnEvent, None]:
    """Take a turn and yield its events, with the Reply last. If not `streamed`, the text is one Piece.

    Every check that can refuse runs before the first event, because the later steps cost money. Close this generator in
    the task that iterates it: if the visitor leaves, the provider call stops and the text received so far is logged.
    """
    if is_storage_full():
        raise StorageFull  # and no failed turn in the log, which would need room too
    question = without_control_characters(question)
    refuse_banned(bot, question, visitor)  # before the limits, so that a banned question uses up nothing
    characters = sum(len(message["content"]) for message in history)
    earlier = await in_thread_if_large(characters, lambda: history_in_prompt(bot, history))
    async with reserve(bot, visitor, question, expected_context(bot, earlier)) as reservation:
        await moderate(bot, question, visitor)
        provider_slug, model = await choose_model(bot)
        turn = visitor.turn(
            bot.pk,
            conversation_uuid or new_uuid(),
            question,
            provider=provider_slug,
            model=model,
            begins=not conversation_uuid,
        )
        yield Started(turn.conversation_uuid, turn.question_id, turn.reply_id)
        window = context_window(await get_config(provider_slug), model)
        room = room_for(bot, window, question)
        passages: list[Passage] = []
        answer = Answer()
        try:
            small_talk = bot.only_from_sources and is_small_talk(question) and not offer_in(history)
            if bot.uses_knowledge and not small_talk:
                yield Searching()
                questions, rewrite = await questions_to_search(
                    bot, (provider_slug, model), history, earlier, question, visitor
                )
                reservation.settle(rewrite.spent if rewrite else None)
                turn = replace(turn, searched_for="\n".join(questions[1:]))
                search, answer.text = await search_or_reply(bot, questions, visitor)
                passages = fit_passages(search.passages, window, room) if search else []
                turn = replace(turn, passages=passages_for_log(passages, bot))
                if passages:
                    answer.citations = Citations(len(set(source_numbers(passages))) if bot.show_sources else 0)
                yield Found(passages, search, rewrite)
            if not answer.text:
                only = SMALL_TALK_ONLY if small_talk else ""
                prompt = build_prompt(bot, model, earlier, question, visitor.username, passages, only=only, room=room)
                provider = await get_provider(provider_slug, Capability.COMPLETION)
                yield Asking(provider_slug, prompt)
                async with aclosing(ask(provider, prompt, answer, visitor, bot, streamed=streamed)) as pieces:
                    async for text in pieces:
                        yield Piece(text)
        except ApiError as error:
            await log(visitor, answer.as_turn(turn, error.message))
            raise
        except (asyncio.CancelledError, GeneratorExit):
            await log(visitor, answer.as_turn(turn, VISITOR_LEFT))
            raise
        finally:
            reservation.settle(answer.spent)
        is_refusal = bot.only_from_sources and without_marks(answer.text).strip() == bot.refusal_message.strip()
        if is_refusal:
            passages, answer.text, answer.citations = [], bot.refusal_message.strip(), None  # nothing is a source of it
        await log(visitor, replace(answer.as_turn(turn), is_refusal=is_refusal))
    yield Reply(
        answer.text,
        answer.usage,
        model,
        turn.conversation_uuid,
        turn.reply_id,
        answer.finish_reason,
        passages,
        answer.cited,
    )


async def log(visitor: Visitor, turn: Turn) -> None:
    if visitor.is_logged:
        await log_turn(turn)


async def choose_model(bot: Chatbot) -> tuple[str, str]:
    """Return the bot's provider and model, or the first configured provider with a default model."""
    candidates = (
        [bot.provider] if bot.provider else [provider.slug for provider in providers_with(Capability.COMPLETION)]
    )
    for slug in candidates:
        config = await get_config(slug)
        model = bot.model or default_model(config, Capability.COMPLETION)
        if model and (bot.provider or is_configured(config)):
            return slug, model
    label = PROVIDERS[bot.provider].label if bot.provider else "any provider"
    raise ApiError(
        f"The chatbot has no model, and there is no default model for {label}. Choose one of them in the admin.",
        status=503,
        code="missing_model_orchestrator",
    )


async def search_or_reply(bot: Chatbot, questions: Sequence[str], visitor: Visitor) -> tuple[Search | None, str]:
    """Return the search (None: it failed), and the fixed reply to give without calling the model, or ""."""
    try:
        search = await search_knowledge(bot, questions, visitor.caller)
    except KnowledgeUnavailable:
        return None, bot.knowledge_unavailable_message if bot.only_from_sources else ""
    return search, bot.refusal_message if bot.only_from_sources and not search.passages else ""


@dataclass(slots=True)
class Answer:
    """The provider's answer as received so far, and its usage. Without `citations`, it has no marks to resolve."""

    text: str = ""
    citations: Citations | None = None
    finish_reason: str = "stop"
    usage: Usage | None = None
    spent: Usage | None = None  # for the limits: an estimate if the provider reports no usage
    milliseconds: int = 0

    @property
    def cited(self) -> Collection[int]:
        return self.citations.cited if self.citations else ()

    def add(self, piece: str) -> str:
        """Add a piece of the text and return what can be shown of it now."""
        shown = self.citations.add(piece) if self.citations else piece
        self.text += shown
        return shown

    def end(self, text: str) -> str:
        """Set the whole text, and return what could not be shown of its end before."""
        rest = self.citations.end() if self.citations else ""
        self.text = text
        if self.citations:
            self.citations = Citations(self.citations.sources)
            self.text = self.citations.add(text) + self.citations.end()
        return rest

    def as_turn(self, turn: Turn, error: str = "") -> Turn:
        passages = [passage | {"cited": passage["number"] in self.cited} for passage in turn.passages or ()]
        return replace(
            turn,
            passages=passages or turn.passages,
            reply=self.text,
            error=error,
            usage=self.usage.as_json() if self.usage else None,
            milliseconds=self.milliseconds,
        )


async def ask(
    provider: Provider, prompt: CompletionRequest, answer: Answer, visitor: Visitor, bot: Chatbot, *, streamed: bool
) -> AsyncGenerator[str, None]:
    """Call the provider, yield its text, and keep `answer` up to date, also if the call fails or is stopped."""
    call: ProviderCall = ProviderCall()
    billed_to: dict[str, Any] = {"caller": visitor.caller, "chatbot_id": bot.pk}
    try:
        if streamed:
            async with streamed_call(provider, prompt, **billed_to) as call:
                async for chunk in call:
                    answer.finish_reason = chunk.finish_reason or answer.finish_reason
                    if shown := answer.add(chunk.text):
                        yield shown
                if rest := answer.end(call.answer):
                    yield rest
        else:
            async with provider_call(provider, Capability.COMPLETION, prompt.model, **billed_to) as call:
                completion = await provider.complete(prompt)
                call.usage = completion.usage
                answer.finish_reason = completion.finish_reason
                answer.end(completion.text)
            yield answer.text
        answer.text = answer.text.strip()
    finally:
        answer.usage, answer.milliseconds = call.usage, call.milliseconds
        answer.spent = call.usage or (estimate_usage(prompt, answer.text) if answer.text else None)
