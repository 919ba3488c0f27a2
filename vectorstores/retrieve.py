"""Retrieve passages: question -> embedding -> search all collections at once -> passages."""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from urllib.parse import urlsplit

import numpy as np

from providers.base import EmbeddingRequest
from providers.use_cases import embed
from puffer.api import ApiError, Caller
from vectorstores.base import Match, Query, VectorStore
from vectorstores.registry import get_store
from vectorstores.stores.threads import call_store

logger = logging.getLogger(__name__)

MAX_EXCERPT = 200  # characters

# The cosine up to which texts are unrelated, by the start of the model's id; near 0 for models that are not listed.
# Measured with the bundled model on questions and passages in English and German: unrelated pairs have 0.74 on average
# and 0.78 at the 90th percentile, related pairs 0.82 to 0.92.
UNRELATED_COSINES = {"multilingual-e5": 0.77}


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The collections to search, and how similar a passage must be. `threshold` is in percent: see least_cosine()."""

    store: str
    collections: Sequence[str]
    embedding_provider: str
    embedding_model: str
    namespace: str = ""
    top_k: int = 3
    threshold: int = 20


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that may answer the question. `score` is a cosine, -1 to 1."""

    collection: str
    match: Match

    @property
    def score(self) -> float:
        return self.match.score

    @property
    def text(self) -> str:
        return self.match.text

    @property
    def document_id(self) -> str:
        return str(self.match.metadata.get("parent_vector_id") or self.match.id)

    @property
    def headings(self) -> str:
        return str(self.match.metadata.get("headings") or "")

    @property
    def url(self) -> str:
        """Return the document's web address; "" if it has none."""
        named = (self.match.metadata.get(name) for name in ("url", "uri", "source"))
        return next((url for url in named if isinstance(url, str) and is_web_address(url)), "")

    @property
    def title(self) -> str:
        """Return the document's title, otherwise the first of its headings, otherwise its id."""
        title = self.match.metadata.get("title")
        return (title if isinstance(title, str) else "") or self.headings.partition(" > ")[0] or self.document_id

    @property
    def excerpt(self) -> str:
        """Return the start of the text on one line."""
        line = " ".join(self.text.split())
        return line if len(line) <= MAX_EXCERPT else line[:MAX_EXCERPT].rpartition(" ")[0] + " …"


@dataclass(frozen=True, slots=True)
class Search:
    """The passages found. `too_far` are below the threshold, which requires a cosine of at least `least`."""

    passages: Sequence[Passage]
    too_far: Sequence[Passage]
    least: float


def is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def least_cosine(model: str, threshold: int) -> float:
    """Return the cosine that a threshold requires: 0 percent is unrelated for this model, 100 percent identical."""
    name = model.rpartition("/")[2]
    floor = next((floor for start, floor in UNRELATED_COSINES.items() if name.startswith(start)), 0.0)
    return floor + (1 - floor) * threshold / 100


async def retrieve(
    question: str, knowledge: Knowledge, *, caller: Caller | None = None, chatbot_id: int | None = None
) -> Search:
    """Search all collections and return up to `top_k` passages of each, best first, without duplicates.

    A collection that fails is logged and left out. Raise ApiError if all collections or the embedding fail.
    """
    store = await get_store(knowledge.store)
    request = EmbeddingRequest(model=knowledge.embedding_model, texts=[question], task_type="RETRIEVAL_QUERY")
    embeddings = await embed(caller, knowledge.embedding_provider, request, chatbot_id=chatbot_id)
    query = Query(np.asarray(embeddings.vectors[0], np.float32), knowledge.top_k, question)
    found = await asyncio.gather(*(matches_in(store, name, query, knowledge) for name in knowledge.collections))
    failures = [matches for matches in found if isinstance(matches, ApiError)]
    if len(failures) == len(found):
        raise failures[0]
    least = least_cosine(knowledge.embedding_model, knowledge.threshold)
    rankings = [
        [Passage(name, match) for match in matches if match.text.strip()]
        for name, matches in zip(knowledge.collections, found, strict=True)
        if not isinstance(matches, ApiError)
    ]
    return Search(
        passages=merge([[passage for passage in ranking if passage.score >= least] for ranking in rankings]),
        too_far=merge([[passage for passage in ranking if passage.score < least] for ranking in rankings]),
        least=least,
    )


async def matches_in(store: VectorStore, target: str, query: Query, knowledge: Knowledge) -> list[Match] | ApiError:
    try:
        return await call_store(store, store.query, target, query, knowledge.namespace)
    except ApiError as error:
        logger.warning("collection %s in %s cannot be searched: %s", target, store.label, error.message)
        return error


def merge(rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
    """Take the first of each ranking, then the second of each: a store's order may be better than its scores."""
    passages: list[Passage] = []
    seen: set[str] = set()
    for rank in zip_longest(*rankings):
        for passage in sorted(filter(None, rank), key=lambda passage: -passage.score):
            text = re.sub(r"\s+", " ", passage.text).strip()
            if text not in seen:
                seen.add(text)
                passages.append(passage)
    return passages
