"""Bring the passages of a search into a reranker's order, which changes nothing about which of them are enough."""

import logging
import time
from collections.abc import Sequence

from puffer.api import ApiError, Caller
from puffer.runtime import LiveCache
from vectorstores.reranking.client import call_reranker
from vectorstores.reranking.models import Reranker
from vectorstores.retrieval.passages import Passage, Reranking

logger = logging.getLogger(__name__)

RERANKED = 20  # passages that a reranker orders; those after them keep their places


async def _read(name: str) -> Reranker | None:
    return await Reranker.objects.filter(name=name).afirst()


rerankers = LiveCache(_read)


async def rerank(
    name: str,
    question: str,
    passages: Sequence[Passage],
    *,
    caller: Caller | None = None,
    chatbot_id: int | None = None,
) -> tuple[list[Passage], Reranking]:
    """Return the passages in the reranker's order, or as they were if it fails or is too slow, and a report of it."""
    candidates, others = passages[:RERANKED], passages[RERANKED:]
    if len(candidates) < 2:
        return list(passages), Reranking(name, candidates)
    started = time.perf_counter()
    failure, ordered = "", candidates
    try:
        reranker = await rerankers.get(name)
        if reranker is None:
            raise ApiError(f"There is no reranker named {name!r}.", status=503, code="reranker_not_found")
        texts = [text_of(passage) for passage in candidates]
        ranking, _ = await call_reranker(
            reranker, question, texts, milliseconds=reranker.milliseconds, caller=caller, chatbot_id=chatbot_id
        )
        ordered = [candidates[place] for place in ranking.order]
    except ApiError as error:
        logger.warning("passages keep the order of the search: %s", error.message)
        failure = error.message
    milliseconds = round((time.perf_counter() - started) * 1000)
    return [*ordered, *others], Reranking(name, candidates, milliseconds, failure)


def text_of(passage: Passage) -> str:
    return "\n".join(filter(None, [passage.title, passage.headings, passage.text]))
