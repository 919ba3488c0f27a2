"""Which conversations contain a text, in their messages or in their visitor's names, for the API and the admin.

text -> normalized -> the texts that are indexed, and row by row the rows that are not yet -> a set of conversations

Sets are compressed bitmaps of ids. Each worker keeps those of recent searches until something is deleted or changed,
which the triggers count; rows that were added since are looked through on every call.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import BinaryField, Case, Exists, F, Func, IntegerField, OuterRef, Value, When
from django.db.models.expressions import RawSQL
from pyroaring import FrozenBitMap

from logs.models import Conversation, ConversationQuerySet
from logs.search.indexer import BATCH, index_if_free
from logs.search.lookup import contains, ids_of, in_texts
from logs.search.normalize import normalized
from logs.search.tables import MESSAGES, SEPARATOR, VISITORS, SearchedTable

MAX_ADDED = 10_000  # rows that are looked through one by one, before everything is searched again
MAX_NOT_INDEXED = 4 * BATCH  # rows that no worker has indexed, before a search does
MAX_LISTED = 500  # conversations that the admin selects by their ids
MAX_SEARCHES = 1000
MAX_BYTES = 32 * 1024 * 1024  # of sets, in each worker


def everything() -> FrozenBitMap:
    return conversations_by(Search(VISITORS, "SELECT id FROM logs_conversation WHERE true"))


def with_bots(chatbot_ids: Iterable[int]) -> FrozenBitMap:
    found = FrozenBitMap()
    for chatbot_id in chatbot_ids:
        sql = "SELECT id FROM logs_conversation WHERE chatbot_id = %s"
        found |= conversations_by(Search(VISITORS, sql, (chatbot_id,)))
    return found


def with_message(text: str) -> FrozenBitMap:
    """Return those in which a message contains the text, whatever letter case and accents. % and _ are plain."""
    return containing(MESSAGES, text)


def with_visitor(text: str) -> FrozenBitMap:
    """Return those whose user has the text in their display name, user name or e-mail, or whose guest has it in the
    session id. A visitor whom the embedding site has identified counts as a user.
    """
    return containing(VISITORS, text) | of_users(text)


def matching(conversations: ConversationQuerySet, text: str) -> ConversationQuerySet:
    """Filter for the admin: conversations with the text in a message or in what is known of their visitor."""
    found = with_message(text) | with_visitor(text)
    if len(found) <= MAX_LISTED:
        return conversations.filter(pk__in=list(found))
    # Not by their keys, or the database would sort all of them: it tests each in the list's order until a page is full.
    if connection.vendor == "postgresql":
        marks = np.zeros(found.max() + 1, np.bool_)
        marks[found.to_array()] = True
        bits = Value(np.packbits(marks, bitorder="little").tobytes(), BinaryField())
        bit = Func(bits, F("pk"), function="get_bit", output_field=IntegerField())
        return conversations.alias(is_found=Case(When(pk__lt=len(marks), then=bit), default=0)).filter(is_found=1)
    among = RawSQL("SELECT value FROM json_each(%s)", [json.dumps(list(found))])
    return conversations.alias(key=F("pk") + 0).filter(key__in=among)


@dataclass(frozen=True, slots=True)
class Search:
    """A SELECT of `id` with a WHERE that looks through a table row by row, and the text that it looks for, if any."""

    searched: SearchedTable
    rows: str
    arguments: tuple[Any, ...] = ()
    text: str | None = None

    def among_all(self, last_indexed: int) -> FrozenBitMap:
        """Search the rows up to `last_indexed` by the index, and the others one by one.

        The outdated conversations come first: those that are indexed meanwhile are found by their new texts.
        """
        if self.text is None or SEPARATOR in self.text:
            return ids_of(self.rows, self.arguments)
        outdated = f"{self.searched.conversation} IN (SELECT conversation_id FROM {self.searched.outdated})"
        found = ids_of(f"{self.rows} AND {outdated}", self.arguments)
        return found | in_texts(self.searched, self.text) | self.among_added(last_indexed)

    def among_added(self, last_id: int) -> FrozenBitMap:
        return ids_of(f"{self.rows} AND id > %s", (*self.arguments, last_id))


def containing(searched: SearchedTable, text: str) -> FrozenBitMap:
    text = normalized(text)
    if text != text.encode(errors="replace").decode():  # halves of surrogate pairs, which no database holds
        return FrozenBitMap()
    condition, argument = contains(searched.lower, text)
    rows = f"SELECT {searched.conversation} AS id FROM {searched.table} WHERE {condition}"
    return conversations_by(Search(searched, rows, (argument,), text))


def of_users(text: str) -> FrozenBitMap:
    """Return those of users whose name, user name or e-mail contains the text.

    Names of users may change and are not in the logs. Users are few, so each search looks through all of them.
    """
    text = normalized(text)
    users = get_user_model().objects.filter(Exists(Conversation.objects.filter(user=OuterRef("pk"))))
    names = users.values_list("pk", "first_name", "last_name", "username", "email")
    wanted = [
        key
        for key, first, last, *others in names.iterator()
        if any(text in normalized(name) for name in (f"{first} {last}", *others))
    ]
    return FrozenBitMap(Conversation.objects.filter(user__in=wanted).values_list("pk", flat=True) if wanted else ())


# The sets of recent searches


@dataclass(frozen=True, slots=True)
class State:
    """How often rows of a table were deleted or changed, the last row that is indexed, and how many come after it."""

    changes: int
    last_indexed: int
    not_indexed: int


_sets: OrderedDict[Search, tuple[State, FrozenBitMap, int]] = (
    OrderedDict()
)  # with their bytes; the last used at the end
_lock = Lock()


def forget() -> None:
    with _lock:
        _sets.clear()


def conversations_by(search: Search) -> FrozenBitMap:
    state = state_of(search.searched)
    if connection.in_atomic_block:  # what a transaction sees may be rolled back
        return search.among_all(state.last_indexed)
    if state.not_indexed > MAX_NOT_INDEXED and index_if_free(search.searched):
        state = state_of(search.searched)
    with _lock:
        before, found, _ = _sets.get(search, (None, FrozenBitMap(), 0))
    if before and before.changes == state.changes and state.last_indexed - before.last_indexed <= MAX_ADDED:
        found |= search.among_added(before.last_indexed)
    else:
        found = search.among_all(state.last_indexed)
    remember(search, state, found)
    return found


def remember(search: Search, state: State, found: FrozenBitMap) -> None:
    with _lock:
        _sets[search] = state, found, len(found.serialize())
        _sets.move_to_end(search)
        total = sum(size for _, _, size in _sets.values())
        while total > MAX_BYTES or len(_sets) > MAX_SEARCHES:
            total -= _sets.popitem(last=False)[1][2]


def state_of(searched: SearchedTable) -> State:
    last = f"coalesce((SELECT max(id) FROM {searched.table}), 0)"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT changes, {searched.index}, {last} - {searched.index} FROM logs_searchstate")
        return State(*cursor.fetchone())
