"""Search a collection by meaning and by words, in whichever store it is.

local                       its driver searches both
Pinecone, Qdrant, Chroma    the store's vectors, and at the same time our words -> fuse -> look up in the store
                            what only the words have found
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from asgiref.sync import sync_to_async
from django.db import Error

from puffer.api import ApiError
from vectorstores.base import Match, Query, VectorStore
from vectorstores.stores.threads import call_store
from vectorstores.word_index.fusion import CANDIDATES, fused
from vectorstores.word_index.stored_elsewhere import find_words

logger = logging.getLogger(__name__)

# The vectors that a store is asked for at least. More of them rank better, but their texts take longer to transfer: on
# our labeled questions, nDCG@10 is 0.660 with 12, 0.676 with 30, 0.679 with 50 and 0.687 with 100.
MIN_VECTORS = 50


async def search(store: VectorStore, target: str, query: Query, namespace: str = "") -> list[Match]:
    """Return at most `top_k` matches, best first. Raise ApiError if the store fails; words may fail."""
    if store.in_database or not query.text:
        return await call_store(store, store.query, target, query, namespace)
    wider = replace(query, top_k=max(MIN_VECTORS, query.top_k))
    found, relevances = await asyncio.gather(
        call_store(store, store.query, target, wider, namespace), words(store, target, query, namespace)
    )
    if not relevances:
        return found[: query.top_k]
    matches = {match.id: match for match in found}
    ranked = fused({match.id: match.score for match in found}, relevances, CANDIDATES)
    found_by_words = [chunk_id for chunk_id in ranked[: query.top_k] if chunk_id not in matches]
    matches |= await look_up(store, target, query, namespace, found_by_words)
    return [matches[chunk_id] for chunk_id in ranked if chunk_id in matches][: query.top_k]


async def words(store: VectorStore, target: str, query: Query, namespace: str) -> dict[str, float]:
    """Return the relevance of the chunks that contain words of the query, by their id; none if the search fails."""
    namespace = namespace if store.has_namespaces else ""
    try:
        return await sync_to_async(find_words)(store.slug, target, namespace, query.text)
    except Error as error:
        logger.warning("the words of %s in %s cannot be searched: %s", target, store.label, error)
        return {}


async def look_up(
    store: VectorStore, target: str, query: Query, namespace: str, ids: Sequence[str]
) -> dict[str, Match]:
    """Return those of the chunks that the store has, with their cosines. The query's filter applies to them too."""
    if not ids:
        return {}
    those = replace(query, top_k=len(ids), filter={**query.filter, "vector_id": ids})
    try:
        return {match.id: match for match in await call_store(store, store.query, target, those, namespace)}
    except ApiError as error:
        logger.warning("what words have found in %s cannot be read from %s: %s", target, store.label, error.message)
        return {}
