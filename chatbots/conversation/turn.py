"""One turn of a conversation, whole and streamed.

limits -> moderation -> knowledge -> provider -> log -> reply
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from chatbots.conversation.knowledge import KnowledgeUnavailable, look_up
from chatbots.conversation.prompt import build_prompt, fitting
from chatbots.conversation.visitor import Visitor
from chatbots.guards.limits import reserve
from chatbots.guards.moderation import moderate
from chatbots.models import Chatbot
from logs.conversations import VISITOR_LEFT, Turn, log_turn
from logs.models import new_uuid
from providers.base import Capability, CompletionRequest, Provider, Usage
from providers.calls import ProviderCall, provider_call, streamed_call
from providers.registry import PROVIDERS, default_model, get_config, get_provider, is_configured, providers_with
from providers.token_estimate import estimate_usage
from puffer.api import ApiError
from puffer.text import without_control_characters
from vectorstores.retrieve import Passage, Search


@dataclass(frozen=True, slots=True)
class Started:
    """The turn is allowed. The ids are those of the log."""

    conversation_uuid: str
    question_id: str
    reply_id: str


@dataclass(frozen=True, slots=True)
class Searching:
    """The question is being looked up."""


@dataclass(frozen=True, slots=True)
class Found:
    """`passages` are what the model gets to see of what the search has found; None: nothing could be searched."""

    passages: Sequence[Passage]
    search: Search | None


@dataclass(frozen=True, slots=True)
class Asking:
    """The model is being asked; where there is no such event, the chatbot answers without it."""

    provider: str
    prompt: CompletionRequest


@dataclass(frozen=True, slots=True)
class Piece:
    """Of the reply's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    usage: Usage | None
    model: str
    conversation_uuid: str
    message_id: str
    finish_reason: str = "stop"
    passages: Sequence[Passage] = ()  # what the model got to see


Event = Started | Searching | Found | Asking | Piece | Reply


async def take_turn(
    bot: Chatbot,
    question: str,
    *,
    history: Sequence[Mapping[str, Any]],
    visitor: Visitor,
    conversation_uuid: str = "",
) -> Reply:
    """Answer `question` as `bot`, and log the turn before the reply leaves, whether it succeeds or fails.

    Raises ApiError for whatever is refused, and for what the provider refuses or fails at.
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
) -> AsyncGenerator[Event, None]:
    """What happens in a turn, as it happens; the last event is the Reply. Not `streamed`: without pieces.

    All that can be refused is refused before the first event, for what comes after it costs money. To be closed in the
    task that iterates it: a visitor who leaves in the middle stops the provider, and is logged with what they used.
    """
    question = without_control_characters(question)
    async with reserve(bot, visitor, question) as reservation:
        await moderate(bot, question, visitor)
        slug, model = await provider_and_model(bot)
        turn = visitor.turn(
            bot.pk,
            conversation_uuid or new_uuid(),
            question,
            provider=slug,
            model=model,
            begins=not conversation_uuid,
        )
        yield Started(turn.conversation_uuid, turn.question_id, turn.reply_id)
        passages: list[Passage] = []
        answer = Answer()
        try:
            if bot.uses_knowledge:
                yield Searching()
                search, answer.text = await look_up_or_refuse(bot, question, visitor)
                passages = fitting(search.passages, slug) if search else []
                turn = replace(turn, passages=[logged(passage, bot) for passage in passages])
                yield Found(passages, search)
            if not answer.text:
                prompt = build_prompt(bot, model, history, question, visitor.username, passages)
                provider = await get_provider(slug, Capability.COMPLETION)
                yield Asking(slug, prompt)
                async with aclosing(pieces(provider, prompt, answer, visitor, bot, streamed=streamed)) as texts:
                    async for text in texts:
                        yield Piece(text)
        except ApiError as error:
            await log_turn(answer.as_turn(turn, error.message))
            raise
        except (asyncio.CancelledError, GeneratorExit):
            await log_turn(answer.as_turn(turn, VISITOR_LEFT))
            raise
        finally:
            reservation.settle(answer.spent)
        refused = bot.only_from_sources and answer.text.strip() == bot.refusal_message.strip()
        await log_turn(replace(answer.as_turn(turn), is_refusal=refused))
    yield Reply(answer.text, answer.usage, model, turn.conversation_uuid, turn.reply_id, answer.finish_reason, passages)


@dataclass(slots=True)
class Answer:
    """What a provider has said so far, and what that took."""

    text: str = ""
    finish_reason: str = "stop"
    usage: Usage | None = None
    spent: Usage | None = None  # for the limits: an estimate where the provider does not count
    milliseconds: int = 0

    def as_turn(self, turn: Turn, error: str = "") -> Turn:
        return replace(
            turn,
            reply=self.text,
            error=error,
            usage=self.usage.as_json() if self.usage else None,
            milliseconds=self.milliseconds,
        )


async def pieces(
    provider: Provider, prompt: CompletionRequest, answer: Answer, visitor: Visitor, bot: Chatbot, *, streamed: bool
) -> AsyncGenerator[str, None]:
    """The text as it comes, or as one piece. `answer` follows, and is right however this ends."""
    call: ProviderCall = ProviderCall()
    who: dict[str, Any] = {"caller": visitor.caller, "chatbot_id": bot.pk}
    try:
        if streamed:
            async with streamed_call(provider, prompt, **who) as call:
                async for chunk in call:
                    answer.text += chunk.text
                    answer.finish_reason = chunk.finish_reason or answer.finish_reason
                    if chunk.text:
                        yield chunk.text
        else:
            async with provider_call(provider, Capability.COMPLETION, prompt.model, **who) as call:
                completion = await provider.complete(prompt)
                call.usage = completion.usage
                answer.text, answer.finish_reason = completion.text, completion.finish_reason
            yield answer.text
        answer.text = answer.text.strip()
    finally:
        answer.usage, answer.milliseconds = call.usage, call.milliseconds
        answer.spent = call.usage or (estimate_usage(prompt, answer.text) if answer.text else None)


async def look_up_or_refuse(bot: Chatbot, question: str, visitor: Visitor) -> tuple[Search | None, str]:
    """What is found, and what is said instead of asking the model; "" where it is to be asked."""
    try:
        search = await look_up(bot, question, visitor.caller)
    except KnowledgeUnavailable:
        return None, bot.knowledge_unavailable_message if bot.only_from_sources else ""
    return search, bot.refusal_message if bot.only_from_sources and not search.passages else ""


def logged(passage: Passage, bot: Chatbot) -> dict[str, Any]:
    """What the log keeps of a passage, under AI Puffer's names."""
    metadata = passage.match.metadata
    place = "index_name" if bot.vector_store_provider == "pinecone" else "collection_name"
    return {
        "provider": bot.vector_store_provider,
        place: passage.collection,
        "namespace": bot.namespace,
        "result_id": passage.match.id,
        "score": round(passage.score, 4),
        "content_preview": " ".join(passage.text.split()[:10]),
        "title": passage.title,
        "url": passage.url,
        **{
            name: metadata[name]
            for name in ("chunk_index", "total_chunks", "char_start", "char_end")
            if name in metadata
        },
    }


async def provider_and_model(bot: Chatbot) -> tuple[str, str]:
    """The bot's own choice, else the first configured provider that has a default model."""
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
        f"The chatbot names no model, and there is no default for {label}.",
        status=503,
        code="missing_model_orchestrator",
    )
