"""What a chatbot knows: its settings -> where to look a question up -> the passages found there."""

import asyncio
import logging

from chatbots.models import Chatbot
from puffer.api import ApiError, Caller
from vectorstores.models import Collection
from vectorstores.retrieve import Knowledge, Search, retrieve

logger = logging.getLogger(__name__)

SECONDS = 15  # that a question is looked up before the chatbot goes on without


class KnowledgeUnavailable(Exception):
    """Nobody knows whether there is a passage."""


async def look_up(bot: Chatbot, question: str, caller: Caller | None) -> Search:
    """What is found for a question. Whatever goes wrong is in the log, and leaves as KnowledgeUnavailable."""
    try:
        async with asyncio.timeout(SECONDS):
            return await retrieve(question, await knowledge_of(bot), caller=caller, chatbot_id=bot.pk)
    except ApiError as error:
        logger.warning("chatbot %s answers without its knowledge: %s", bot.pk, error.message)
        raise KnowledgeUnavailable from error
    except TimeoutError as error:
        logger.warning("chatbot %s answers without its knowledge: it took longer than %s seconds", bot.pk, SECONDS)
        raise KnowledgeUnavailable from error
    except Exception as error:  # a turn is worth more than its passages
        logger.exception("chatbot %s answers without its knowledge", bot.pk)
        raise KnowledgeUnavailable from error


async def knowledge_of(bot: Chatbot) -> Knowledge:
    """Without an embedding model of its own, the one that its first collection was filled with."""
    provider, model = bot.vector_embedding_provider, bot.vector_embedding_model
    if not (provider and model):
        filled = await Collection.objects.filter(
            store=bot.vector_store_provider, name=bot.collections[0], embedding_model__gt=""
        ).afirst()
        if filled is None:
            raise ApiError(
                f"It names no embedding model, and nothing was put into {bot.collections[0]!r} from here.",
                status=503,
                code="missing_vector_text_embedding_config",
            )
        provider, model = filled.embedding_provider, filled.embedding_model
    return Knowledge(
        store=bot.vector_store_provider,
        collections=bot.collections,
        embedding_provider=provider,
        embedding_model=model,
        namespace=bot.namespace,
        top_k=bot.vector_store_top_k,
        threshold=bot.vector_store_confidence_threshold,
    )
