"""Order passages: fuse the rankings of several questions, and bring several documents to the top. Pure functions."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import zip_longest

from vectorstores.retrieval.passages import Passage

RANK_CONSTANT = 3  # of reciprocal rank fusion: how slowly the weight of a rank falls
OTHER_CHUNK = 0.5  # weight of a document's second passage, its square that of the third


def fuse(rankings: Sequence[Sequence[Passage]], weights: Sequence[float]) -> list[Passage]:
    """Return the passages of all rankings, best first, by reciprocal ranks. A passage keeps its highest score."""
    weight_of: dict[str, float] = defaultdict(float)
    passages: dict[str, Passage] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, passage in enumerate(ranking):
            key = passage.match.id
            weight_of[key] += weight / (RANK_CONSTANT + rank)
            if key not in passages or passages[key].score < passage.score:
                passages[key] = passage
    return sorted(passages.values(), key=lambda passage: -weight_of[passage.match.id])


def by_document(ranking: Sequence[Passage]) -> list[Passage]:
    """Return the passages, with each further one of a document lower: chunks of one document crowd out the others."""
    earlier: dict[str, int] = defaultdict(int)
    weights = []
    for rank, passage in enumerate(ranking):
        weights.append(OTHER_CHUNK ** earlier[passage.document_id] / (RANK_CONSTANT + rank))
        earlier[passage.document_id] += 1
    order = sorted(range(len(ranking)), key=lambda place: -weights[place])
    return [ranking[place] for place in order]


def without_duplicates(ranking: Sequence[Passage]) -> list[Passage]:
    """Return the first passage of each text."""
    first: dict[str, Passage] = {}
    for passage in ranking:
        first.setdefault(re.sub(r"\s+", " ", passage.text).strip(), passage)
    return list(first.values())


def first_of_each(ranking: Sequence[Passage], count: int) -> list[Passage]:
    """Return the first `count` passages of each collection."""
    taken: Counter[str] = Counter()
    chosen = []
    for passage in ranking:
        taken[passage.collection] += 1
        if taken[passage.collection] <= count:
            chosen.append(passage)
    return chosen


def merge(rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
    """Take the first of each ranking, then the second of each: a store's order may be better than its scores."""
    ranks = zip_longest(*rankings)
    merged = [passage for rank in ranks for passage in sorted(filter(None, rank), key=lambda found: -found.score)]
    return without_duplicates(merged)
