"""Fuse a search by meaning and a search by words into one order. Pure functions."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

CANDIDATES = 100  # rows that each search returns

Key = TypeVar("Key", bound=Hashable)


def fused(cosines: Mapping[Key, float], relevances: Mapping[Key, float], limit: int) -> list[Key]:
    """Return the keys that either search found, best first.

    Each score is scaled to 0..1 between the lowest and the highest score of its search, and both are added; a search
    that has not found a key counts 0. If fewer than `limit` rows contain the words, the lowest relevance is 0.
    """
    weights: dict[Key, float] = {}
    no_match = min(relevances.values()) if len(relevances) == limit else 0.0
    for scores, least in ((cosines, min(cosines.values(), default=0.0)), (relevances, no_match)):
        span = max(scores.values(), default=0.0) - least
        for key, score in scores.items():
            weights[key] = weights.get(key, 0.0) + ((score - least) / span if span > 0 else 1.0)
    return sorted(weights, key=lambda key: -weights[key])
