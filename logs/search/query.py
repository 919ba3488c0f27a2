"""Find the conversations that contain a text in their messages or their visitor's names, for the API and the admin.

text -> normalized -> lookup in the index, and a scan of the rows that are not indexed yet -> a set of conversations

Sets are compressed bitmaps of ids. Each worker caches the sets of recent searches until rows are deleted or changed,
which the triggers count. Rows added since then are scanned on every call.
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

MAX_ADDED = 10_000  # new rows that are scanned in addition to a cached set; with more, the search is repeated
MAX_NOT_INDEXED = 4 * BATCH  # rows; with more, the search indexes a batch itself instead of leaving it to the worker
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
    """Return the conversations with a message that contains the text, ignoring letter case and accents."""
    return containing(MESSAGES, text)


def with_visitor(text: str) -> FrozenBitMap:
    """Return the conversations of users with the text in their name, user name or e-mail, and of guests with it in the
    session id. A visitor whom the embedding site has identified counts as a user.
    """
    return containing(VISITORS, text) | of_users(text)


def matching(conversations: ConversationQuerySet, text: str) -> ConversationQuerySet:
    """Filter the admin's list by a text in the messages or in what is known about the visitor."""
    found = with_message(text) | with_visitor(text)
    if len(found) <= MAX_LISTED:
        return conversations.filter(pk__in=list(found))
    # With a condition on the key, the database would sort all matches. With these expressions it walks the list in its
    # order and tests each row until a page is full.
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
    """A search: `rows` is a SELECT of `id` that scans the table row by row, `text` the text it looks for, if any."""

    searched: SearchedTable
    rows: str
    arguments: tuple[Any, ...] = ()
    text: str | None = None

    def among_all(self, last_indexed: int) -> FrozenBitMap:
        """Search the rows up to `last_indexed` in the index, and scan the others.

        The outdated conversations are scanned first: if one is indexed meanwhile, the index finds its new text.
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
    if text != text.encode(errors="replace").decode():  # halves of surrogate pairs, which no database can store
        return FrozenBitMap()
    condition, argument = contains(searched.lower, text)
    rows = f"SELECT {searched.conversation} AS id FROM {searched.table} WHERE {condition}"
    return conversations_by(Search(searched, rows, (argument,), text))


def of_users(text: str) -> FrozenBitMap:
    """Return the conversations of users whose name, user name or e-mail contains the text.

    Users may change their names, so the logs do not contain them. Users are few, so each search scans all of them.
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
    """The state of a table's index: the number of deletions and changes, the last indexed id, and the rows after it."""

    changes: int
    last_indexed: int
    not_indexed: int


_sets: OrderedDict[Search, tuple[State, FrozenBitMap, int]] = (
    OrderedDict()
)  # each with its size in bytes, the least recently used first
_lock = Lock()


def forget() -> None:
    with _lock:
        _sets.clear()


def conversations_by(search: Search) -> FrozenBitMap:
    state = state_of(search.searched)
    if connection.in_atomic_block:  # a set of uncommitted rows must not be cached, because they may be rolled back
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
