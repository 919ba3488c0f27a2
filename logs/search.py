"""Which conversations hold a text, in their messages or in their visitor's names: one way for the API and the admin.

text -> folded -> index (FTS5, pg_trgm), or row by row where that does not know it -> a set of conversations
sets -> their intersection -> how many they are, and the ids of any page

What was found is kept, for the next page and the next caller. It counts only as long as nothing was deleted or changed
since, which the database counts (logs/search_index.py), and what was added since is always looked through.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any

import numpy as np
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.db.models.expressions import RawSQL
from django.utils import timezone
from numpy.typing import NDArray

from logs.folding import folded
from logs.models import Conversation, ConversationQuerySet
from logs.search_index import MESSAGES, SEARCHED, VISITORS, Searched

TRIGRAM = 3  # characters
# Of a longer text the index knows the beginning, and what it finds is compared as a whole.
MOST_INDEXED = 100
MOST_TRIGRAMS = 100  # that a shorter text may be the beginning of, on SQLite: else row by row
# What pg_trgm knows: letters and digits, three in a row or at the beginning or end of a word.
KNOWN_TO_PG_TRGM = re.compile(r"[^\W_]{3}|[^\W_]{2}[\W_]|[\W_][^\W_]")
OTHER_WAYS = ["enable_seqscan", "enable_indexscan", "enable_indexonlyscan"]  # of PostgreSQL's planner
MOST_ADDED = 10_000  # rows that are looked through one by one before everything is searched anew
SETTLED_AFTER = timedelta(seconds=30)  # then whatever has a lower id is committed, on PostgreSQL
MOST_SEARCHES = 1000
MOST_KEPT = 32 * 1024 * 1024  # bytes, in each worker


Ids = NDArray[np.int64]


class Found:
    """A set of conversations, by id."""

    def __init__(self, marks: NDArray[np.bool_]) -> None:
        self.marks = marks

    @classmethod
    def of(cls, ids: Ids) -> "Found":
        marks = np.zeros(int(ids.max()) + 1 if len(ids) else 0, np.bool_)
        marks[ids] = True
        return cls(marks)

    def __len__(self) -> int:
        return int(np.count_nonzero(self.marks))

    def __and__(self, other: "Found") -> "Found":
        shared = min(len(self.marks), len(other.marks))
        return Found(self.marks[:shared] & other.marks[:shared])

    def __or__(self, other: "Found") -> "Found":
        short, long = sorted((self.marks, other.marks), key=len)
        marks = long.copy()
        marks[: len(short)] |= short
        return Found(marks)

    def ids(self, first: int = 0, count: int | None = None) -> list[int]:
        """In ascending order, of one page."""
        return np.flatnonzero(self.marks)[first : None if count is None else first + count].tolist()


NOTHING = Found(np.zeros(0, np.bool_))


def everything() -> Found:
    return found_by(Search("logs_conversation", "SELECT id FROM logs_conversation WHERE id > 0"))


def with_bots(chatbot_ids: Iterable[int]) -> Found:
    found = NOTHING
    for chatbot_id in chatbot_ids:
        sql = "SELECT id FROM logs_conversation WHERE chatbot_id = %s"
        found |= found_by(Search("logs_conversation", sql, (chatbot_id,)))
    return found


def with_message(text: str) -> Found:
    """Those in which a message contains the text, in any letter case, with any accents; % and _ are plain."""
    return containing(MESSAGES, text)


def with_visitor(text: str) -> Found:
    """Those whose user has it in their display name, user name or e-mail, or whose guest has it in the session id.

    A visitor of whom the embedding site tells is such a user too.
    """
    return containing(VISITORS, text) | of_users(text)


def matching(conversations: ConversationQuerySet, text: str) -> ConversationQuerySet:
    """For the admin: those with the text in a message or in what is known of their visitor."""
    ids = (with_message(text) | with_visitor(text)).ids()
    if connection.vendor == "postgresql":
        among = RawSQL("SELECT unnest(%s::bigint[])", [ids])
    else:
        among = RawSQL("SELECT value FROM json_each(%s)", [json.dumps(ids)])
    return conversations.filter(pk__in=among)


@dataclass(frozen=True, slots=True)
class Search:
    """`rows` looks through a table row by row, and has a WHERE. The index, if it knows the text, finds the same."""

    table: str
    rows: str
    arguments: tuple[Any, ...] = ()
    indexed: tuple[Searched, str] | None = None

    def whole(self, held: int) -> Ids:
        """The index of SQLite holds rows up to that id."""
        by_index = on_postgresql if connection.vendor == "postgresql" else on_sqlite
        query = by_index(*self.indexed) if self.indexed else None
        if query is None:
            return ids_of(self.rows, self.arguments)
        with by_index_alone():
            found = ids_of(*query)
        return found if connection.vendor == "postgresql" else np.concatenate([found, self.after(held)])

    def after(self, newest: int) -> Ids:
        return ids_of(f"{self.rows} AND id > %s", (*self.arguments, newest))


def containing(searched: Searched, text: str) -> Found:
    text = folded(text)
    if text != text.encode(errors="replace").decode():  # halves of surrogate pairs, which are in no text
        return NOTHING
    condition, argument = row_contains(searched, text)
    rows = f"SELECT {searched.conversation} AS id FROM {searched.table} WHERE {condition}"  # noqa: S608
    return found_by(Search(searched.table, rows, (argument,), (searched, text)))


def row_contains(searched: Searched, text: str) -> tuple[str, str]:
    if connection.vendor == "postgresql":
        return f"strpos({searched.lower}, %s) > 0", text
    return f"instr({searched.lower}, %s) > 0", text


def on_sqlite(searched: Searched, text: str) -> tuple[str, tuple[Any, ...]] | None:
    index = searched.index
    found = f"SELECT DISTINCT {searched.to_conversation} AS id FROM {index} WHERE {index} MATCH %s"  # noqa: S608
    if len(text) >= TRIGRAM:
        if len(text) <= MOST_INDEXED:
            return found, (quoted(text),)
        condition, argument = row_contains(searched, text)
        row = f"SELECT 1 FROM {searched.table} WHERE id = {searched.to_row} AND {condition}"  # noqa: S608
        return f"{found} AND EXISTS ({row})", (quoted(text[:MOST_INDEXED]), argument)
    if len(text) == 1 and text.isascii() and text.isalnum():
        return None  # trigrams begin with it by the thousand
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT term FROM {index}_terms WHERE term >= %s AND term < %s LIMIT %s",  # noqa: S608
            [text, text + chr(0x10FFFF), MOST_TRIGRAMS + 1],
        )
        trigrams = [trigram for (trigram,) in cursor.fetchall()]
    if len(trigrams) > MOST_TRIGRAMS:
        return None
    return found, (" OR ".join(map(quoted, trigrams)) or '""',)


def quoted(text: str) -> str:
    """A string of FTS5's, in which nothing is syntax."""
    return '"' + text.replace('"', '""') + '"'


def on_postgresql(searched: Searched, text: str) -> tuple[str, tuple[Any, ...]] | None:
    beginning = text[:MOST_INDEXED]
    if not KNOWN_TO_PG_TRGM.search(beginning):
        return None
    escaped = re.sub(r"([\\%_])", r"\\\1", beginning)
    found = f"SELECT DISTINCT {searched.conversation} AS id FROM {searched.table} WHERE {searched.lower} LIKE %s"  # noqa: S608
    if len(text) <= MOST_INDEXED:
        return found, (f"%{escaped}%",)
    condition, argument = row_contains(searched, text)
    return f"{found} AND {condition}", (f"%{escaped}%", argument)


@contextmanager
def by_index_alone() -> Iterator[None]:
    """PostgreSQL's planner guesses from a sample how many rows hold a text, and reads all where it guesses high.

    Of the ways through a table only that by a bitmap is left to it, which is the one of the trigram index.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config(name, CASE WHEN to_regclass('logs_messagesearch') IS NULL THEN 'on' ELSE 'off' END,"
            " true) FROM unnest(%s::text[]) AS name UNION ALL SELECT set_config('work_mem', '64MB', true)"
            " UNION ALL SELECT set_config('jit', 'off', true)",
            [OTHER_WAYS],
        )
        yield
        for way in OTHER_WAYS:
            cursor.execute(f"SET LOCAL {way} TO DEFAULT")


def ids_of(sql: str, arguments: Sequence[Any]) -> Ids:
    """In one value, for a row each would take longer than the search."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SELECT string_agg(int8send(id), ''::bytea) FROM ({sql}) AS found", arguments)  # noqa: S608
            return np.frombuffer(cursor.fetchone()[0] or b"", ">i8").astype(np.int64)
        cursor.execute(f"SELECT group_concat(id) FROM ({sql})", arguments)  # noqa: S608
        listed = cursor.fetchone()[0]
        return np.fromstring(listed, np.int64, sep=",") if listed else np.zeros(0, np.int64)


# What is kept


@dataclass(frozen=True, slots=True)
class State:
    """Of a table: how often something was deleted or changed, a row after which all that come are additions, and the
    last one in the index."""

    changes: int
    newest: int
    held: int


@dataclass(frozen=True, slots=True)
class Kept:
    state: State
    size: int
    bits: NDArray[np.uint8]

    @property
    def found(self) -> Found:
        return Found(np.unpackbits(self.bits, count=self.size).view(np.bool_))


_kept: OrderedDict[Search, Kept] = OrderedDict()  # the last used at the end
_lock = Lock()


def forget() -> None:
    with _lock:
        _kept.clear()


def found_by(search: Search) -> Found:
    state = state_of(search.table)
    if connection.in_atomic_block:  # what a transaction sees may never come to be
        return Found.of(search.whole(state.held))
    with _lock:
        kept = _kept.get(search)
    if kept and kept.state.changes == state.changes and state.newest - kept.state.newest <= MOST_ADDED:
        found = kept.found | Found.of(search.after(kept.state.newest))
    else:
        found = Found.of(search.whole(state.held))
    keep(search, Kept(state, len(found.marks), np.packbits(found.marks)))
    return found


def keep(search: Search, kept: Kept) -> None:
    with _lock:
        _kept[search] = kept
        _kept.move_to_end(search)
        size = sum(kept.bits.nbytes for kept in _kept.values())
        while size > MOST_KEPT or len(_kept) > MOST_SEARCHES:
            size -= _kept.popitem(last=False)[1].bits.nbytes


def state_of(table: str) -> State:
    """Writers of SQLite come one after another. On PostgreSQL a lower id may be committed after a higher one."""
    newest = f"SELECT max(id) FROM {table}"  # noqa: S608
    arguments: list[Any] = []
    if connection.vendor == "postgresql":
        lowest = f"(SELECT max(id) - {MOST_ADDED} FROM {table})"  # noqa: S608
        newest = (
            f"SELECT greatest({lowest}, (SELECT id FROM {table} WHERE id > {lowest} AND created_at < %s"  # noqa: S608
            " ORDER BY id DESC LIMIT 1))"
        )
        arguments = [timezone.now() - SETTLED_AFTER]
    with connection.cursor() as cursor:
        held = next(searched.index for searched in SEARCHED if searched.table == table)
        cursor.execute(f"SELECT changes, coalesce(({newest}), 0), {held} FROM logs_searchstate", arguments)  # noqa: S608
        return State(*cursor.fetchone())


# Users, whose names are not in the logs and may change: they are few, so they are looked through each time.


def of_users(text: str) -> Found:
    """Those of users whose name, user name or e-mail contains the text."""
    text = folded(text)
    users = get_user_model().objects.filter(Exists(Conversation.objects.filter(user=OuterRef("pk"))))
    names = users.values_list("pk", "first_name", "last_name", "username", "email")
    wanted = [
        key
        for key, first, last, *others in names.iterator()
        if any(text in folded(name) for name in (f"{first} {last}", *others))
    ]
    if not wanted:
        return NOTHING
    if connection.vendor == "postgresql":
        return Found.of(ids_of("SELECT id FROM logs_conversation WHERE user_id = ANY(%s)", [wanted]))
    sql = "SELECT id FROM logs_conversation WHERE user_id IN (SELECT value FROM json_each(%s))"
    return Found.of(ids_of(sql, [json.dumps(wanted)]))
