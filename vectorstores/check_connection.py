"""Call a store or a reranker from admin pages, with time limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from puffer.api import ApiError
from vectorstores.base import CollectionInfo
from vectorstores.documents.stored import StoredDocument, read
from vectorstores.models import Collection, Document, Reranker, StoreConfig
from vectorstores.registry import STORES, get_store, settings_of, store_for
from vectorstores.reranking.client import call_reranker
from vectorstores.retrieval import Knowledge, Search, retrieve
from vectorstores.stores.threads import call_store

TRIAL_SECONDS = 10.0
PAGE_SECONDS = 4.0  # for optional information on a page
QUESTION_SECONDS = 30.0  # an embedding model may have to be loaded first
# For the test of a reranker. The second text answers the question.
TRIAL_QUESTION = "When does the shop open?"
TRIAL_TEXTS = ["Tea is grown in the mountains of Assam.", "The shop opens at nine in the morning."]


@asynccontextmanager
async def time_limit(name: str, seconds: float) -> AsyncIterator[None]:
    """Raise ApiError if the block takes longer. `name` is the server that the error message names."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise ApiError(f"{name} did not answer within {seconds:g} seconds.", status=504) from late


async def list_targets(config: StoreConfig) -> list[str]:
    """Return the names of the store's collections. Raise ApiError with the store's error message."""
    store = store_for(config.slug, settings_of(config))
    async with time_limit(store.label, TRIAL_SECONDS):
        return await call_store(store, store.list_targets)


async def describe(collection: Collection) -> CollectionInfo:
    """Return the store's description of the collection. Raise ApiError."""
    async with time_limit(STORES[collection.store].label, PAGE_SECONDS):
        store = await get_store(collection.store)
        return await call_store(store, store.describe, collection.name)


async def read_document(document: Document) -> StoredDocument:
    """Return what the store has of the document. Raise ApiError."""
    async with time_limit(STORES[document.collection.store].label, TRIAL_SECONDS):
        return await read(document)


async def look_up(question: str, knowledge: Knowledge) -> Search:
    """Return the passages that a chatbot with this knowledge would find. Raise ApiError."""
    async with time_limit(f"The embedding model or {STORES[knowledge.store].label}", QUESTION_SECONDS):
        return await retrieve([question], knowledge)


async def try_reranker(reranker: Reranker) -> tuple[int, bool]:
    """Return how many milliseconds a small call took, and whether its order is right. Raise ApiError."""
    limit = round(TRIAL_SECONDS * 1000)
    ranking, milliseconds = await call_reranker(reranker, TRIAL_QUESTION, TRIAL_TEXTS, milliseconds=limit)
    return milliseconds, ranking.order[0] == 1
