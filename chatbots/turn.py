"""One turn of a conversation: question -> knowledge -> provider -> log -> reply."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chatbots.knowledge import KnowledgeUnavailable, look_up
from chatbots.models import Chatbot
from chatbots.prompt import build_prompt, fitting
from chatbots.visitor import Visitor
from logs.conversations import Turn, log_turn
from providers.base import Capability, Usage
from providers.calls import ProviderCall, provider_call
from providers.prompt_text import clean
from providers.registry import PROVIDERS, default_model, get_config, get_provider, is_configured, providers_with
from puffer.api.errors import ApiError
from vectorstores.retrieve import Passage


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    usage: Usage | None
    model: str
    conversation_uuid: str
    passages: Sequence[Passage] = ()  # what the model got to see


async def take_turn(
    bot: Chatbot,
    question: str,
    *,
    history: Sequence[Mapping[str, Any]],
    visitor: Visitor,
    conversation_uuid: str = "",
) -> Reply:
    """Answer `question` as `bot`, and log the turn before the reply leaves, whether it succeeds or fails.

    Raises ApiError for whatever the provider refuses or fails at.
    """
    question = clean(question)
    slug, model = await provider_and_model(bot)
    turn = Turn(
        question=question,
        chatbot_id=bot.pk,
        provider=slug,
        model=model,
        conversation_uuid=conversation_uuid,
        api_key_id=visitor.caller.key_id if visitor.caller else None,
        user_id=visitor.user_id,
        ip_address=visitor.ip_address,
        source=visitor.source,
    )
    passages: list[Passage] = []
    if bot.uses_knowledge:
        try:
            passages = fitting(await look_up(bot, question, visitor.caller), slug)
        except KnowledgeUnavailable:
            if bot.only_from_sources:
                return await reply_without_model(turn, bot.knowledge_unavailable_message)
        if bot.only_from_sources and not passages:
            return await reply_without_model(turn, bot.refusal_message)
        turn = replace(turn, passages=[logged(passage, bot) for passage in passages])
    call = ProviderCall()
    try:
        provider = await get_provider(slug, Capability.COMPLETION)
        prompt = build_prompt(bot, model, history, question, visitor.username, passages)
        async with provider_call(
            provider, Capability.COMPLETION, model, caller=visitor.caller, chatbot_id=bot.pk
        ) as call:
            completion = await provider.complete(prompt)
            call.usage = completion.usage
    except ApiError as error:
        await log_turn(replace(turn, error=error.message, milliseconds=call.milliseconds))
        raise
    except asyncio.CancelledError:
        await log_turn(replace(turn, error="The caller left before the answer.", milliseconds=call.milliseconds))
        raise
    answered = replace(
        turn,
        reply=completion.text,
        usage=completion.usage.as_json() if completion.usage else None,
        milliseconds=call.milliseconds,
    )
    return Reply(completion.text, completion.usage, model, await log_turn(answered), passages)


async def reply_without_model(turn: Turn, text: str) -> Reply:
    """For a question that no model is asked, for it may answer from passages alone and there is none."""
    return Reply(text, None, turn.model, await log_turn(replace(turn, reply=text)))


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
