"""Full-text search over the rows of LocalVector: FTS5 on SQLite, a tsvector column on PostgreSQL.

The migration creates both, and the database keeps them up to date. Vectors find the same meaning; words find names,
numbers and rare terms.

    question -> terms -> number of rows with each term -> required terms and terms that only rank -> ranked rows

A word that half of all rows contain is the most expensive and the least useful one, so rare terms select the rows.
"""

import hashlib
import math
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.db import connection

from vectorstores.models import Collection
from vectorstores.terms import spellings_of, terms_of

TITLE_WEIGHT, HEADINGS_WEIGHT, TEXT_WEIGHT = 2.0, 1.5, 1.0
# Limits in rows, which bound the time of a search in a collection of any size.
MAX_RANKED = 5000
MAX_TERM_ROWS = 10_000  # a term in more rows is ignored
COMMON_SECONDS = 300  # for which a term that is ignored is not counted again: this takes half the time of a search
MAX_COMMON = 100_000  # terms
NEAR = 2  # neighboring terms of the question count again if at most this many words are between them


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a search. Rows must contain one of `required`, or all if `all_required`; `ranked` raise the rank."""

    required: Sequence[str]
    ranked: Sequence[str]  # the required terms and more common ones
    all_required: bool = False


def scope_of(collection: Collection, namespace: str) -> str:
    """Return collection and namespace as one word, made of digits because stemming does not change those."""
    if not namespace:
        return f"c{collection.pk}"
    digest = hashlib.blake2b(namespace.encode(errors="replace"), digest_size=7).digest()
    return f"c{collection.pk}n{int.from_bytes(digest)}"


def select_terms(terms: Sequence[str], counts: Sequence[int]) -> Terms:
    """Choose the required terms by `counts`, the number of rows with each term."""
    rarest_first = sorted((count, term) for term, count in zip(terms, counts, strict=True) if count)
    required: list[str] = []
    rows = 0
    for count, term in rarest_first:
        rows += count
        if rows <= MAX_RANKED:
            required.append(term)
    ranked = [term for count, term in rarest_first if count <= MAX_TERM_ROWS]
    if required or not rarest_first:
        return Terms(required, ranked)
    all_terms = [term for _, term in rarest_first]
    return Terms(all_terms, all_terms, all_required=True)


_common_until: dict[tuple[object, ...], float] = {}  # the ignored terms of each place; time.monotonic()


def counts_of(
    terms: Sequence[str], place: tuple[object, ...], count: Callable[[Sequence[str]], Sequence[int]]
) -> list[int]:
    """Return the number of rows with each term, at most MAX_TERM_ROWS + 1. Large counts may be minutes old."""
    now = time.monotonic()
    wanted = [term for term in terms if _common_until.get((place, term), 0.0) < now]
    found = dict(zip(wanted, count(wanted), strict=True)) if wanted else {}
    if len(_common_until) > MAX_COMMON:
        _common_until.clear()
    _common_until.update({(place, term): now + COMMON_SECONDS for term in wanted if found[term] > MAX_TERM_ROWS})
    return [found.get(term, MAX_TERM_ROWS + 1) for term in terms]


def search(
    collection: Collection, namespace: str, question: str, limit: int, among: Container[int] | None = None
) -> list[tuple[int, float]]:
    """Return (primary key of LocalVector, relevance) of at most `limit` rows, best first; only of `among`, if given.

    Relevance is above 0 and comparable only within one search.
    """
    terms = terms_of(question)
    if not terms:
        return []
    database = PostgreSQL if connection.vendor == "postgresql" else SQLite
    if among is None:
        return database(collection, namespace).search(terms, limit)
    found = database(collection, namespace).search(terms, MAX_RANKED)
    return [(key, relevance) for key, relevance in found if key in among][:limit]


# Whether rows of other collections or namespaces exist. Each part looks at one entry of an index.
OTHER_ROWS = """SELECT
    EXISTS (SELECT 1 FROM vectorstores_localvector WHERE collection_id < %s)
    OR EXISTS (SELECT 1 FROM vectorstores_localvector WHERE collection_id > %s)
    OR EXISTS (SELECT 1 FROM vectorstores_localvector WHERE collection_id = %s AND namespace < %s)
    OR EXISTS (SELECT 1 FROM vectorstores_localvector WHERE collection_id = %s AND namespace > %s)"""


class SQLite:
    """The search with FTS5. Source: https://www.sqlite.org/fts5.html"""

    def __init__(self, collection: Collection, namespace: str) -> None:
        self.place = (collection.pk, collection.created_at, namespace)
        columns = "{title headings text}"
        is_alone = not rows_of(OTHER_ROWS, [collection.pk] * 2 + [collection.pk, namespace] * 2)[0][0]
        # FTS5 would read the whole list of the scope's rows. Rows of another collection that is created in this moment
        # are no matches either: callers keep only rows of their own collection.
        self.condition = columns if is_alone else f'scope : "{scope_of(collection, namespace)}" AND {columns}'

    def search(self, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        wanted = select_terms(terms, counts_of(terms, self.place, self.count))
        if not wanted.required:
            return []
        ranked = (
            f"SELECT rowid AS id, -bm25(vectorstores_keywords, 0, {TITLE_WEIGHT}, {HEADINGS_WEIGHT}, {TEXT_WEIGHT})"  # noqa: S608
            f" AS relevance FROM vectorstores_keywords(%s) LIMIT {MAX_RANKED}"
        )
        best = f"SELECT id, relevance FROM ({ranked}) ORDER BY relevance DESC, id LIMIT %s"  # noqa: S608
        return rows_of(best, [self.here(self.expression(terms, wanted)), limit])

    def count(self, terms: Sequence[str]) -> Sequence[int]:
        counts = f"SELECT count(*) FROM (SELECT 1 FROM vectorstores_keywords(%s) LIMIT {MAX_TERM_ROWS + 1})"  # noqa: S608
        conditions = [self.here(any_spelling(term)) for term in terms]
        return rows_of(f"SELECT {', '.join([f'({counts})'] * len(terms))}", conditions)[0]

    def expression(self, terms: Sequence[str], wanted: Terms) -> str:
        """Return the FTS5 query. A term that occurs in it several times counts as often in the rank."""
        ranked = [term for term in terms if term in wanted.ranked]
        near = [f"NEAR({quoted(one)} {quoted(other)}, {NEAR})" for one, other in pairwise(ranked)]
        required = [any_spelling(term) for term in wanted.required]
        more = [any_spelling(term) for term in ranked if term not in wanted.required]
        if not (more or wanted.all_required):
            return " OR ".join([*required, *near])
        condition = (" AND " if wanted.all_required else " OR ").join(required)
        # The required terms occur in both parts and count twice, so the others are written twice.
        return f"({condition}) AND ({' OR '.join([*required, *more * 2, *near * 2])})"

    def here(self, expression: str) -> str:
        return f"{self.condition} : ({expression})"


class PostgreSQL:
    """The search with a tsvector. Source: https://www.postgresql.org/docs/current/textsearch-controls.html"""

    def __init__(self, collection: Collection, namespace: str) -> None:
        self.place = [collection.pk, namespace]
        self.created_at = collection.created_at

    def search(self, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        counts = counts_of(terms, (*self.place, self.created_at), self.count)
        wanted = select_terms(terms, counts)
        if not wanted.required:
            return []
        return self.ranked(wanted, dict(zip(terms, counts, strict=True)), limit)

    def count(self, terms: Sequence[str]) -> Sequence[int]:
        counts = f"SELECT count(*) FROM ({self.having()} LIMIT {MAX_TERM_ROWS + 1}) AS counted"  # noqa: S608
        arguments = [argument for term in terms for argument in (*self.place, any_spelling_for_web([term]))]
        return rows_of(f"SELECT {', '.join([f'({counts})'] * len(terms))}", arguments)[0]

    def ranked(self, wanted: Terms, counts: dict[str, int], limit: int) -> list[tuple[int, float]]:
        """Weigh each term by its rarity, which ts_rank() ignores."""
        weights = [0.0, *(weight / TITLE_WEIGHT for weight in (TEXT_WEIGHT, HEADINGS_WEIGHT, TITLE_WEIGHT))]
        rank = " + ".join(
            ["%s * ts_rank(%s::float4[], keywords, websearch_to_tsquery('english', %s))"] * len(wanted.ranked)
        )
        arguments: list[Any] = []
        for term in wanted.ranked:
            arguments += [1 / math.log(2 + counts[term]), weights, any_spelling_for_web([term])]
        condition = (
            " ".join(map(quoted, wanted.required)) if wanted.all_required else any_spelling_for_web(wanted.required)
        )
        found = f"{self.having('id, keywords')} LIMIT {MAX_RANKED}"
        best = f"SELECT id, {rank} AS relevance FROM ({found}) AS found ORDER BY relevance DESC, id LIMIT %s"  # noqa: S608
        return rows_of(best, [*arguments, *self.place, condition, limit])

    def having(self, columns: str = "1") -> str:
        return (
            f"SELECT {columns} FROM vectorstores_localvector"  # noqa: S608
            " WHERE collection_id = %s AND namespace = %s AND keywords @@ websearch_to_tsquery('english', %s)"
        )


def any_spelling(term: str) -> str:
    """Return an FTS5 query for the term in any of its spellings."""
    spellings = " OR ".join(map(quoted, spellings_of(term)))
    return f"({spellings})"


def any_spelling_for_web(terms: Sequence[str]) -> str:
    """Return the same for all terms in the language of websearch_to_tsquery(), which has no parentheses."""
    return " or ".join(quoted(spelling) for term in terms for spelling in spellings_of(term))


def quoted(term: str) -> str:
    """Return the term as a phrase: a term contains no quotes, and within quotes neither database reads any syntax."""
    return f'"{term}"'


def rows_of(statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        return cursor.fetchall()
