"""Which conversations hold a text, in their messages or in their visitor's names: one way for the API and the admin.

text -> normalized -> index (FTS5, pg_trgm), or text by text where that is slower -> a set of conversations
sets -> their intersection -> how many they are, and the ids of any page

What was found is kept, for the next page and the next caller. It counts only as long as nothing was deleted or changed
since, which the database counts (logs/search/index.py), and what was added since is always looked through.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import BinaryField, Case, Exists, F, Func, IntegerField, OuterRef, Value, When
from django.db.models.expressions import RawSQL
from numpy.typing import NDArray

from logs.models import Conversation, ConversationQuerySet
from logs.search.index import AT_ONCE, MESSAGES, SEPARATOR, VISITORS, Searched, take_up_if_free
from logs.search.normalize import normalized

TRIGRAM = 3  # characters
# Of a longer text the index knows the beginning, and what it finds is compared as a whole.
MOST_INDEXED = 100
MOST_TRIGRAMS = 100  # that a shorter text may be the beginning of, on SQLite: else text by text
# What pg_trgm knows: letters and digits, three in a row or at the beginning or end of a word.
KNOWN_TO_PG_TRGM = re.compile(r"[^\W_]{3}|[^\W_]{2}[\W_]|[\W_][^\W_]")
SAMPLE = 40  # pages of PostgreSQL's, of 8 KB
COMMON = 0.2  # of the sample: from there on reading all texts is faster than what the index finds, one by one
MOST_ADDED = 10_000  # rows that are looked through one by one before everything is searched anew
MOST_LEFT = 4 * AT_ONCE  # rows that no worker has taken up, before a search does
MANY = 500  # conversations that a list is filled from
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
    return found_by(Search(VISITORS, "SELECT id FROM logs_conversation WHERE true"))


def with_bots(chatbot_ids: Iterable[int]) -> Found:
    found = NOTHING
    for chatbot_id in chatbot_ids:
        found |= found_by(Search(VISITORS, "SELECT id FROM logs_conversation WHERE chatbot_id = %s", (chatbot_id,)))
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
    found = with_message(text) | with_visitor(text)
    if len(found) < MANY:
        return conversations.filter(pk__in=found.ids())
    # Not by their keys, for then all would have to be sorted: each in the order of the list, until a page is full.
    if connection.vendor == "postgresql":
        bits = Value(np.packbits(found.marks, bitorder="little").tobytes(), BinaryField())
        bit = Func(bits, F("pk"), function="get_bit", output_field=IntegerField())
        return conversations.alias(is_found=Case(When(pk__lt=len(found.marks), then=bit), default=0)).filter(is_found=1)
    among = RawSQL("SELECT value FROM json_each(%s)", [json.dumps(found.ids())])
    return conversations.alias(key=F("pk") + 0).filter(key__in=among)


@dataclass(frozen=True, slots=True)
class Search:
    """`rows` looks through a table row by row, and has a WHERE; `text` is what they hold, if that is what is asked."""

    searched: Searched
    rows: str
    arguments: tuple[Any, ...] = ()
    text: str | None = None

    def whole(self, taken_up: int) -> Ids:
        """`taken_up`: the id of the last row that is.

        First what waits: who takes it up meanwhile has it found by its new texts.
        """
        if self.text is None or SEPARATOR in self.text:
            return ids_of(self.rows, self.arguments)
        waiting = f"{self.searched.conversation} IN (SELECT conversation_id FROM {self.searched.outdated})"  # noqa: S608
        found = ids_of(f"{self.rows} AND {waiting}", self.arguments), in_texts(self.searched, self.text)
        return np.concatenate([*found, self.after(taken_up)])

    def after(self, newest: int) -> Ids:
        return ids_of(f"{self.rows} AND id > %s", (*self.arguments, newest))


def containing(searched: Searched, text: str) -> Found:
    text = normalized(text)
    if text != text.encode(errors="replace").decode():  # halves of surrogate pairs, which are in no text
        return NOTHING
    condition, argument = contains(searched.lower, text)
    rows = f"SELECT {searched.conversation} AS id FROM {searched.table} WHERE {condition}"  # noqa: S608
    return found_by(Search(searched, rows, (argument,), text))


def contains(column: str, text: str) -> tuple[str, str]:
    if connection.vendor == "postgresql":  # where LIKE is twice as fast as strpos()
        escaped = re.sub(r"([\\%_])", r"\\\1", text)
        return f"{column} LIKE %s", f"%{escaped}%"
    return f"instr({column}, %s) > 0", text


def in_texts(searched: Searched, text: str) -> Ids:
    """By what is taken up."""
    return (on_postgresql if connection.vendor == "postgresql" else on_sqlite)(searched, text)


def on_postgresql(searched: Searched, text: str) -> Ids:
    condition, argument = contains("text", text)
    in_beginning, beginning = contains("text", text[:MOST_INDEXED])
    found = f"SELECT id >> 32 AS id FROM {searched.texts} WHERE {condition}"  # noqa: S608
    is_known = KNOWN_TO_PG_TRGM.search(text[:MOST_INDEXED])
    is_rare = is_known and share_of(searched, in_beginning, beginning) < COMMON
    with planned(FOR_INDEX if is_rare else FOR_ALL):
        if len(text) <= MOST_INDEXED:
            return ids_of(found, [argument])
        return ids_of(f"{found} AND {in_beginning}", [argument, beginning])


def on_sqlite(searched: Searched, text: str) -> Ids:
    condition, argument = contains("text", text)
    trigrams = trigrams_of(searched, text[:MOST_INDEXED])
    if trigrams is None:
        return ids_of(f"SELECT id >> 32 AS id FROM {searched.texts} WHERE {condition}", [argument])  # noqa: S608
    found = f"SELECT rowid >> 32 AS id FROM {searched.index} WHERE {searched.index} MATCH %s"  # noqa: S608
    if len(text) <= MOST_INDEXED:
        return ids_of(found, [trigrams])
    return ids_of(f"{found} AND {condition}", [trigrams, argument])


def trigrams_of(searched: Searched, text: str) -> str | None:
    """What to ask SQLite's index for; None where too many would be the answer."""
    if len(text) >= TRIGRAM:
        return quoted(text)
    if len(text) == 1 and text.isascii() and text.isalnum():
        return None  # trigrams begin with it by the thousand
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT term FROM {searched.index}_terms WHERE term >= %s AND term < %s LIMIT %s",  # noqa: S608
            [text, text + chr(0x10FFFF), MOST_TRIGRAMS + 1],
        )
        trigrams = [trigram for (trigram,) in cursor.fetchall()]
    return None if len(trigrams) > MOST_TRIGRAMS else " OR ".join(map(quoted, trigrams)) or '""'


def quoted(text: str) -> str:
    """A string of FTS5's, in which nothing is syntax."""
    return '"' + text.replace('"', '""') + '"'


def share_of(searched: Searched, condition: str, argument: str) -> float:
    """Of the texts, by a sample of them: PostgreSQL's own guess comes from what it does not keep of long texts."""
    sample = f"{searched.texts} TABLESAMPLE SYSTEM (%s)"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size(%s) / 8192", [searched.texts])
        pages = cursor.fetchone()[0]
        percent = min(100.0, 100 * SAMPLE / max(pages, 1))
        cursor.execute(f"SELECT avg(({condition})::int) FROM {sample}", [argument, percent])  # noqa: S608
        return float(cursor.fetchone()[0] or 0)


# The planner of PostgreSQL is left one way.
FOR_INDEX = {"enable_seqscan": "off", "enable_indexscan": "off", "enable_indexonlyscan": "off", "work_mem": "64MB"}
FOR_ALL = {"enable_bitmapscan": "off", "parallel_setup_cost": "0", "parallel_tuple_cost": "0"}


@contextmanager
def planned(settings: dict[str, str]) -> Iterator[None]:
    settings = {**settings, "jit": "off"}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS settings (name, value)",
            [list(settings), list(settings.values())],
        )
        yield
        cursor.execute("; ".join(f"SET LOCAL {name} TO DEFAULT" for name in settings))


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
    """Of a table: how often something was deleted or changed, and the last row that is taken up. All that come after
    that are additions."""

    changes: int
    taken_up: int
    left: int


@dataclass(frozen=True, slots=True)
class LiveCache:
    state: State
    size: int
    bits: NDArray[np.uint8]

    @property
    def found(self) -> Found:
        return Found(np.unpackbits(self.bits, count=self.size).view(np.bool_))


_kept: OrderedDict[Search, LiveCache] = OrderedDict()  # the last used at the end
_lock = Lock()


def forget() -> None:
    with _lock:
        _kept.clear()


def found_by(search: Search) -> Found:
    state = state_of(search.searched)
    if connection.in_atomic_block:  # what a transaction sees may never come to be
        return Found.of(search.whole(state.taken_up))
    if state.left > MOST_LEFT and take_up_if_free(search.searched):
        state = state_of(search.searched)
    with _lock:
        kept = _kept.get(search)
    if kept and kept.state.changes == state.changes and state.taken_up - kept.state.taken_up <= MOST_ADDED:
        found = kept.found | Found.of(search.after(kept.state.taken_up))
    else:
        found = Found.of(search.whole(state.taken_up))
    keep(search, LiveCache(state, len(found.marks), np.packbits(found.marks)))
    return found


def keep(search: Search, kept: LiveCache) -> None:
    with _lock:
        _kept[search] = kept
        _kept.move_to_end(search)
        size = sum(kept.bits.nbytes for kept in _kept.values())
        while size > MOST_KEPT or len(_kept) > MOST_SEARCHES:
            size -= _kept.popitem(last=False)[1].bits.nbytes


def state_of(searched: Searched) -> State:
    newest = f"coalesce((SELECT max(id) FROM {searched.table}), 0)"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT changes, {searched.index}, {newest} - {searched.index} FROM logs_searchstate")  # noqa: S608
        return State(*cursor.fetchone())


# Users, whose names are not in the logs and may change: they are few, so they are looked through each time.


def of_users(text: str) -> Found:
    """Those of users whose name, user name or e-mail contains the text."""
    text = normalized(text)
    users = get_user_model().objects.filter(Exists(Conversation.objects.filter(user=OuterRef("pk"))))
    names = users.values_list("pk", "first_name", "last_name", "username", "email")
    wanted = [
        key
        for key, first, last, *others in names.iterator()
        if any(text in normalized(name) for name in (f"{first} {last}", *others))
    ]
    if not wanted:
        return NOTHING
    if connection.vendor == "postgresql":
        return Found.of(ids_of("SELECT id FROM logs_conversation WHERE user_id = ANY(%s)", [wanted]))
    sql = "SELECT id FROM logs_conversation WHERE user_id IN (SELECT value FROM json_each(%s))"
    return Found.of(ids_of(sql, [json.dumps(wanted)]))
