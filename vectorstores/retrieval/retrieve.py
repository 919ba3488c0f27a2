"""Retrieve passages.

questions -> embeddings -> search all collections at once -> fuse -> judge -> rerank (if set) -> passages
"""

import asyncio
import logging
from collections.abc import Sequence

import numpy as np

from providers.base import EmbeddingRequest
from providers.use_cases import embed
from puffer.api import ApiError, Caller
from vectorstores.base import Query, VectorStore
from vectorstores.registry import get_store
from vectorstores.retrieval.evidence import Evidence
from vectorstores.retrieval.passages import Knowledge, Passage, Search
from vectorstores.retrieval.ranking import by_document, first_of_each, fuse, merge, without_duplicates
from vectorstores.retrieval.rerank import RERANKED, rerank
from vectorstores.word_index.hybrid import search

logger = logging.getLogger(__name__)

CANDIDATES = 4  # times top_k, because several may be chunks of the same document
CONTEXT_WEIGHT = 0.85  # of the question with its context; measured by benchmarks/conversations.py


async def retrieve(
    questions: Sequence[str], knowledge: Knowledge, *, caller: Caller | None = None, chatbot_id: int | None = None
) -> Search:
    """Search all collections and return up to `top_k` passages of each, best first, without duplicates.

    The first question is the visitor's message; a second one contains what the message may refer to, and is the one
    that a reranker compares with the passages.
    A collection that fails is logged and left out. Raise ApiError if all collections or the embedding fail.
    """
    store = await get_store(knowledge.store)
    request = EmbeddingRequest(model=knowledge.embedding_model, texts=list(questions), task_type="RETRIEVAL_QUERY")
    embeddings = await embed(caller, knowledge.embedding_provider, request, chatbot_id=chatbot_id)
    kept = max(knowledge.top_k, RERANKED if knowledge.reranker else 0)  # of each collection
    depth = max(CANDIDATES * knowledge.top_k, kept)
    queries = [
        Query(np.asarray(vector, np.float32), depth, question)
        for vector, question in zip(embeddings.vectors, questions, strict=True)
    ]
    rankings = await asyncio.gather(*(ranking_of(store, name, queries, knowledge) for name in knowledge.collections))
    failures = [ranking for ranking in rankings if isinstance(ranking, ApiError)]
    if len(failures) == len(rankings):
        raise failures[0]
    evidence = Evidence(questions, knowledge.embedding_model, knowledge.threshold)
    enough, too_far = [], []
    for ranking in rankings:
        if not isinstance(ranking, ApiError):
            judged = [(passage, evidence.is_enough(passage)) for passage in ranking]
            enough.append([passage for passage, is_enough in judged if is_enough][:kept])
            too_far.append([passage for passage, is_enough in judged if not is_enough][: knowledge.top_k])
    found, reranking = merge(enough), None
    if knowledge.reranker:
        ordered, reranking = await rerank(
            knowledge.reranker, questions[-1], found, caller=caller, chatbot_id=chatbot_id
        )
        found = first_of_each(ordered, knowledge.top_k)
    return Search(found, merge(too_far), evidence.least, questions, reranking)


async def ranking_of(
    store: VectorStore, target: str, queries: Sequence[Query], knowledge: Knowledge
) -> list[Passage] | ApiError:
    """Return a collection's passages, best first."""
    try:
        found = [await search(store, target, query, knowledge.namespace) for query in queries]
    except ApiError as error:
        logger.warning("collection %s in %s cannot be searched: %s", target, store.label, error.message)
        return error
    rankings = [[Passage(target, match) for match in matches if match.text.strip()] for matches in found]
    fused = fuse(rankings, [1.0, CONTEXT_WEIGHT][: len(rankings)])
    return by_document(without_duplicates(fused))
