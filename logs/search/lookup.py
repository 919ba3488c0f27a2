"""Look up a text in the trigram index: SQLite's FTS5, or PostgreSQL's pg_trgm.

A trigram index proposes too many texts for a common string, and none for one or two letters. Where reading all texts is
faster, the lookup reads them all.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from django.db import connection, transaction
from pyroaring import FrozenBitMap

from logs.search.tables import SearchedTable

TRIGRAM = 3  # characters
# Only the beginning of a longer text is looked up in the index. The texts found are then compared with all of it.
MAX_LOOKUP = 100  # characters
MAX_TRIGRAMS = 100  # on SQLite: if more trigrams begin with the one or two letters, all texts are read
# Text in which pg_trgm finds a trigram: letters and digits, three in a row or at the beginning or end of a word.
HAS_PG_TRIGRAM = re.compile(r"[^\W_]{3}|[^\W_]{2}[\W_]|[\W_][^\W_]")
SAMPLE_PAGES = 40  # pages of 8 KB
COMMON = 0.2  # share of matching texts above which PostgreSQL reads all texts faster than it uses the index
# Planner settings that make PostgreSQL use the index, or read all texts.
FOR_INDEX = {"enable_seqscan": "off", "enable_indexscan": "off", "enable_indexonlyscan": "off", "work_mem": "64MB"}
FOR_ALL = {"enable_bitmapscan": "off", "parallel_setup_cost": "0", "parallel_tuple_cost": "0"}


def contains(column: str, text: str) -> tuple[str, str]:
    """Return the SQL condition that the column contains the text, and its argument."""
    if connection.vendor == "postgresql":  # where LIKE is twice as fast as strpos()
        escaped = re.sub(r"([\\%_])", r"\\\1", text)
        return f"{column} LIKE %s", f"%{escaped}%"
    return f"instr({column}, %s) > 0", text


def in_texts(searched: SearchedTable, text: str) -> FrozenBitMap:
    """Return the conversations whose indexed text contains the normalized text."""
    return (on_postgresql if connection.vendor == "postgresql" else on_sqlite)(searched, text)


def on_postgresql(searched: SearchedTable, text: str) -> FrozenBitMap:
    condition, argument = contains("text", text)
    in_beginning, beginning = contains("text", text[:MAX_LOOKUP])
    found = f"SELECT id >> 32 AS id FROM {searched.texts} WHERE {condition}"
    has_trigram = HAS_PG_TRIGRAM.search(text[:MAX_LOOKUP])
    is_rare = has_trigram and share_of(searched, in_beginning, beginning) < COMMON
    with planned(FOR_INDEX if is_rare else FOR_ALL):
        if len(text) <= MAX_LOOKUP:
            return ids_of(found, [argument])
        return ids_of(f"{found} AND {in_beginning}", [argument, beginning])


def on_sqlite(searched: SearchedTable, text: str) -> FrozenBitMap:
    condition, argument = contains("text", text)
    trigrams = trigrams_of(searched, text[:MAX_LOOKUP])
    if trigrams is None:
        return ids_of(f"SELECT id >> 32 AS id FROM {searched.texts} WHERE {condition}", [argument])
    found = f"SELECT rowid >> 32 AS id FROM {searched.index} WHERE {searched.index} MATCH %s"
    if len(text) <= MAX_LOOKUP:
        return ids_of(found, [trigrams])
    return ids_of(f"{found} AND {condition}", [trigrams, argument])


def trigrams_of(searched: SearchedTable, text: str) -> str | None:
    """Return the query for SQLite's index, or None if it would contain too many trigrams."""
    if len(text) >= TRIGRAM:
        return quoted(text)
    if len(text) == 1 and text.isascii() and text.isalnum():
        return None  # thousands of trigrams begin with it
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT term FROM {searched.index}_terms WHERE term >= %s AND term < %s LIMIT %s",
            [text, text + chr(0x10FFFF), MAX_TRIGRAMS + 1],
        )
        trigrams = [trigram for (trigram,) in cursor.fetchall()]
    return None if len(trigrams) > MAX_TRIGRAMS else " OR ".join(map(quoted, trigrams)) or '""'


def quoted(text: str) -> str:
    """Quote the text as an FTS5 string, so that none of it is read as query syntax."""
    return '"' + text.replace('"', '""') + '"'


def share_of(searched: SearchedTable, condition: str, argument: str) -> float:
    """Return the share of texts that meet the condition, measured on a sample.

    PostgreSQL's own estimate comes from statistics that leave out long texts.
    """
    sample = f"{searched.texts} TABLESAMPLE SYSTEM (%s)"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size(%s) / 8192", [searched.texts])
        pages = cursor.fetchone()[0]
        percent = min(100.0, 100 * SAMPLE_PAGES / max(pages, 1))
        cursor.execute(f"SELECT avg(({condition})::int) FROM {sample}", [argument, percent])
        return float(cursor.fetchone()[0] or 0)


@contextmanager
def planned(settings: dict[str, str]) -> Iterator[None]:
    """Run the block's queries with these settings of PostgreSQL's planner."""
    settings = {**settings, "jit": "off"}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS settings (name, value)",
            [list(settings), list(settings.values())],
        )
        yield
        cursor.execute("; ".join(f"SET LOCAL {name} TO DEFAULT" for name in settings))


def ids_of(sql: str, arguments: Sequence[Any]) -> FrozenBitMap:
    """Return the ids that a SELECT of `id` finds.

    They are fetched as one value, because fetching a row per id takes longer than the search. An id has 31 bits,
    because a text's key is a conversation's id << 32.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SELECT string_agg(int4send(id::int), ''::bytea) FROM ({sql}) AS found", arguments)
            ids = np.frombuffer(cursor.fetchone()[0] or b"", ">u4")
        else:
            cursor.execute(f"SELECT group_concat(id) FROM ({sql})", arguments)
            listed = cursor.fetchone()[0]
            ids = np.fromstring(listed, np.int64, sep=",") if listed else np.zeros(0)
    return FrozenBitMap(array("I", ids.astype(np.uint32).tobytes()))
