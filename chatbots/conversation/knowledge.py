"""A chatbot's knowledge: search its collections for passages that answer a question."""

import asyncio
import logging
import time
from collections.abc import Sequence

from chatbots.models import Chatbot
from puffer.api import ApiError, Caller
from vectorstores.base import StoreSettings
from vectorstores.models import Collection
from vectorstores.registry import STORES
from vectorstores.retrieval import Knowledge, Search, retrieve

logger = logging.getLogger(__name__)

LOADING_SECONDS = 60  # after which no further collection is loaded
SECONDS = 15  # after which the turn continues without knowledge


class KnowledgeUnavailable(Exception):
    """A failed search: whether a matching passage exists is unknown."""


async def search_knowledge(bot: Chatbot, questions: Sequence[str], caller: Caller | None) -> Search:
    """Return the passages found for the questions of a turn. Any error is logged and raised as KnowledgeUnavailable."""
    try:
        async with asyncio.timeout(SECONDS):
            return await retrieve(questions, await knowledge_of(bot), caller=caller, chatbot_id=bot.pk)
    except ApiError as error:
        logger.warning("chatbot %s answers without its knowledge: %s", bot.pk, error.message)
        raise KnowledgeUnavailable from error
    except TimeoutError as error:
        logger.warning("chatbot %s answers without its knowledge: no result within %s seconds", bot.pk, SECONDS)
        raise KnowledgeUnavailable from error
    except Exception as error:  # an answer without passages is better than none
        logger.exception("chatbot %s answers without its knowledge", bot.pk)
        raise KnowledgeUnavailable from error


async def knowledge_of(bot: Chatbot) -> Knowledge:
    """Return where to search. A bot without an embedding model uses that of its first collection. Raise ApiError."""
    provider, model = bot.vector_embedding_provider, bot.vector_embedding_model
    if not (provider and model):
        filled = await Collection.objects.filter(
            store=bot.vector_store_provider, name=bot.collections[0], embedding_model__gt=""
        ).afirst()
        if filled is None:
            raise ApiError(
                f"The chatbot has no embedding model, and {bot.collections[0]!r} was not filled by this server. "
                "Choose the chatbot's embedding model.",
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
        reranker=bot.reranker,
    )


def load_vectors() -> None:
    """Load the vectors that published chatbots search, so that the first questions do not wait for them."""
    deadline = time.monotonic() + LOADING_SECONDS
    bots = [bot for bot in Chatbot.objects.published() if bot.uses_knowledge]
    wanted = {(bot.vector_store_provider, name, bot.namespace) for bot in bots for name in bot.collections}
    for slug, name, namespace in sorted(wanted):
        if STORES[slug].in_database and time.monotonic() < deadline:
            STORES[slug](StoreSettings()).load(name, namespace)
