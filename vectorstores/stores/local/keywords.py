"""Full-text search over the local store's chunks: SQLite's FTS5 or PostgreSQL's own, kept in step by the database.

Both are made in migration 0003. Vectors find what means the same; words find names, numbers and rare terms.

    question -> terms -> how many rows each is in -> which of them rows must have, which only count -> rows, ranked

A word that is in half of all rows costs most and tells least, so what is ranked is bounded by the rare ones.
"""

import hashlib
import math
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.db import connection

from vectorstores.models import Collection

TITLE_WEIGHT, HEADINGS_WEIGHT, TEXT_WEIGHT = 2.0, 1.5, 1.0
MAX_TERMS = 32
LONGEST_TERM = 100  # characters
# Rows, of 100,000 as of 1,000,000: so the time a search takes has a bound.
MOST_RANKED = 5000
MOST_OF_A_TERM = 10_000  # a term in more of them neither finds nor counts
NEAR = 2  # words between two that are neighbours in the question, at most: then both count once more

# A word, also one with the signs within that part numbers, versions, addresses and paths have.
WORD = re.compile(r"\w+(?:[-.:/_@+]\w+)*")
STOP_WORDS = frozenset(
    WORD.findall(
        "a about an and any are as at be but by can could did do does for from get give had has have how i if in into "
        "is it its may me my no not of on or our shall should so some tell than that the their them there these they "
        "this to us was we were what when where which who whom whose why will with would you your"
    )
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is looked for: rows that have one of `needed`, or all of them if `together`, ranked by `counted`."""

    needed: Sequence[str]
    counted: Sequence[str]  # all of `needed`, and more common ones
    together: bool = False


def scope_of(collection: Collection, namespace: str) -> str:
    """Collection and namespace as one word. Of digits, for a stemmer leaves those alone."""
    if not namespace:
        return f"c{collection.pk}"
    digest = hashlib.blake2b(namespace.encode(errors="replace"), digest_size=7).digest()
    return f"c{collection.pk}n{int.from_bytes(digest)}"


def terms_of(question: str) -> list[str]:
    """The words worth looking for, each once, in order; all words where none would be left."""
    words = list(dict.fromkeys(word.lower()[:LONGEST_TERM] for word in WORD.findall(question)))
    telling = [word for word in words if word not in STOP_WORDS and (len(word) > 1 or word.isdigit())]
    return (telling or words)[:MAX_TERMS]


def chosen(terms: Sequence[str], counts: Sequence[int]) -> Terms:
    """`counts` tells in how many rows each term is."""
    rarest_first = sorted((count, term) for term, count in zip(terms, counts, strict=True) if count)
    needed: list[str] = []
    rows = 0
    for count, term in rarest_first:
        rows += count
        if rows <= MOST_RANKED:
            needed.append(term)
    counted = [term for count, term in rarest_first if count <= MOST_OF_A_TERM]
    if needed or not rarest_first:
        return Terms(needed, counted)
    all_terms = [term for _, term in rarest_first]
    return Terms(all_terms, all_terms, together=True)


def search(
    collection: Collection, namespace: str, question: str, limit: int, among: Container[int] | None = None
) -> list[tuple[int, float]]:
    """(primary key of LocalVector, relevance) of at most `limit`, the best first; only of those `among`, if given.

    Relevance is above 0, and comparable within one search alone.
    """
    terms = terms_of(question)
    if not terms:
        return []
    database = PostgreSQL if connection.vendor == "postgresql" else SQLite
    if among is None:
        return database(collection, namespace).search(terms, limit)
    found = database(collection, namespace).search(terms, MOST_RANKED)
    return [(key, relevance) for key, relevance in found if key in among][:limit]


class SQLite:
    """Source: https://www.sqlite.org/fts5.html"""

    def __init__(self, collection: Collection, namespace: str) -> None:
        self.scope = scope_of(collection, namespace)

    def search(self, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        counts = f"SELECT count(*) FROM (SELECT 1 FROM vectorstores_keywords(%s) LIMIT {MOST_OF_A_TERM + 1})"  # noqa: S608
        found = rows_of(f"SELECT {', '.join([f'({counts})'] * len(terms))}", [self.here(quoted(t)) for t in terms])
        wanted = chosen(terms, found[0])
        if not wanted.needed:
            return []
        ranked = (
            f"SELECT rowid AS id, -bm25(vectorstores_keywords, 0, {TITLE_WEIGHT}, {HEADINGS_WEIGHT}, {TEXT_WEIGHT})"  # noqa: S608
            f" AS relevance FROM vectorstores_keywords(%s) LIMIT {MOST_RANKED}"
        )
        best = f"SELECT id, relevance FROM ({ranked}) ORDER BY relevance DESC, id LIMIT %s"  # noqa: S608
        return rows_of(best, [self.here(self.expression(terms, wanted)), limit])

    def expression(self, terms: Sequence[str], wanted: Terms) -> str:
        """What is in it finds and counts, and counts as often as it is there."""
        counted = [term for term in terms if term in wanted.counted]
        near = [f"NEAR({quoted(one)} {quoted(other)}, {NEAR})" for one, other in pairwise(counted)]
        needed = [quoted(term) for term in wanted.needed]
        more = [quoted(term) for term in counted if term not in wanted.needed]
        if not (more or wanted.together):
            return " OR ".join([*needed, *near])
        found = (" AND " if wanted.together else " OR ").join(needed)
        # What is needed counts by being in both, so all else is in it twice.
        return f"({found}) AND ({' OR '.join([*needed, *more * 2, *near * 2])})"

    def here(self, expression: str) -> str:
        return f'scope : "{self.scope}" AND {{title headings text}} : ({expression})'


class PostgreSQL:
    """Source: https://www.postgresql.org/docs/current/textsearch-controls.html"""

    def __init__(self, collection: Collection, namespace: str) -> None:
        self.place = [collection.pk, namespace]

    def search(self, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        counts = f"SELECT count(*) FROM ({self.having()} LIMIT {MOST_OF_A_TERM + 1}) AS counted"  # noqa: S608
        arguments = [argument for term in terms for argument in (*self.place, quoted(term))]
        found = rows_of(f"SELECT {', '.join([f'({counts})'] * len(terms))}", arguments)
        wanted = chosen(terms, found[0])
        if not wanted.needed:
            return []
        return self.ranked(wanted, dict(zip(terms, found[0], strict=True)), limit)

    def ranked(self, wanted: Terms, counts: dict[str, int], limit: int) -> list[tuple[int, float]]:
        """PostgreSQL's own rank does not know that a rare word tells more than a common one, so each is weighed."""
        weights = [0.0, *(weight / TITLE_WEIGHT for weight in (TEXT_WEIGHT, HEADINGS_WEIGHT, TITLE_WEIGHT))]
        rank = " + ".join(
            ["%s * ts_rank(%s::float4[], keywords, websearch_to_tsquery('english', %s))"] * len(wanted.counted)
        )
        arguments: list[Any] = []
        for term in wanted.counted:
            arguments += [1 / math.log(2 + counts[term]), weights, quoted(term)]
        needed = (" " if wanted.together else " or ").join(map(quoted, wanted.needed))
        found = f"{self.having('id, keywords')} LIMIT {MOST_RANKED}"
        best = f"SELECT id, {rank} AS relevance FROM ({found}) AS found ORDER BY relevance DESC, id LIMIT %s"  # noqa: S608
        return rows_of(best, [*arguments, *self.place, needed, limit])

    def having(self, columns: str = "1") -> str:
        return (
            f"SELECT {columns} FROM vectorstores_localvector"  # noqa: S608
            " WHERE collection_id = %s AND namespace = %s AND keywords @@ websearch_to_tsquery('english', %s)"
        )


def quoted(term: str) -> str:
    """A term as a phrase, for both databases: it holds no quote, and within quotes nothing is syntax."""
    return f'"{term}"'


def rows_of(statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        return cursor.fetchall()
