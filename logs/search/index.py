"""What makes logs/search/query.py fast, in tables that Django does not know: made after migrations.

messages, names of visitors -> a thousand rows at once -> a text for each conversation -> its trigrams

To index a row takes as long as to write it, many at once much less. So the texts follow: the worker takes up what was
added, and what is not taken up yet is looked through row by row. What is changed or deleted counts at once, by
triggers: the conversation's texts go, and what is left of it is taken up anew. A count of such changes tells when kept
results are outdated.

SQLite: FTS5 tables of trigrams over the texts. A table that is rebuilt, as Django does to change a column, loses its
triggers, so they are made again after all migrations. Source: https://www.sqlite.org/fts5.html
PostgreSQL: trigram indexes on the texts, where the server has pg_trgm.
Sources: https://www.postgresql.org/docs/current/pgtrgm.html and .../gin.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.apps.registry import Apps
from django.core.checks import CheckMessage, Warning
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from logs.search.normalize import NormalizedField

AT_ONCE = 1000  # rows in a transaction: a visitor's turn may have to wait for it
SEPARATOR = "\x1f"  # between the rows in a text, and twice at its end: so a trigram begins at each character of theirs
PATIENCE = "50ms"  # of the worker with who writes, on PostgreSQL: as long as it waits, the next to write wait too
PENDING_KB = 16 * 1024  # of what was added, before PostgreSQL sorts it in while somebody waits
INLINE = 8160  # bytes of a text that PostgreSQL keeps in its row, as it is; all of a page


@dataclass(frozen=True, slots=True)
class Searched:
    """Rows of a table, by text, which belong to conversations."""

    table: str
    conversation: str  # the column
    text: str
    changes: str  # columns that the text, or which conversations are found, depends on
    texts: str  # the table of what is taken up
    index: str  # on that; also the column of logs_searchstate with the highest id of a row that is taken up

    @property
    def lower(self) -> str:
        """As it is compared. Letter case goes by ASCII here, the rest is in the normalized columns."""
        collate = ' COLLATE "C"' if connection.vendor == "postgresql" else ""
        return f"lower(({self.text}){collate})"

    @property
    def outdated(self) -> str:
        """The table of conversations that have no texts now, and are to be taken up anew."""
        return f"{self.texts}_outdated"

    @property
    def taken_up(self) -> str:
        return f"(SELECT {self.index} FROM logs_searchstate)"  # noqa: S608


MESSAGES = Searched(
    table="logs_message",
    conversation="conversation_id",
    text="coalesce(normalized, content)",
    changes="id, conversation_id, content, normalized",
    texts="logs_messagetext",
    index="logs_messagesearch",
)
VISITORS = Searched(
    table="logs_conversation",
    conversation="id",
    # A line each, and none of a session where there is a user.
    text="CASE WHEN user_id IS NULL THEN coalesce(session_id, '') ELSE '' END || '\n' || coalesce("
    "external_normalized, external_name || '\n' || external_email || '\n' || external_user_id)",
    changes="id, chatbot_id, user_id, session_id, external_name, external_email, external_user_id, external_normalized",
    texts="logs_visitortext",
    index="logs_visitorsearch",
)
SEARCHED = [MESSAGES, VISITORS]

COUNT = "UPDATE logs_searchstate SET changes = changes + 1"


def make(database: BaseDatabaseWrapper) -> None:
    make_empty(database)
    for searched in SEARCHED:
        while take_up(database, searched):
            pass
    if database.vendor == "postgresql":
        make_trigram_indexes(database)


def make_empty(database: BaseDatabaseWrapper, changes: int = 0) -> None:
    with database.cursor() as cursor:
        columns = ", ".join(f"{name} bigint NOT NULL" for name in ["changes", *(each.index for each in SEARCHED)])
        cursor.execute(f"CREATE TABLE logs_searchstate ({columns})")
        cursor.execute("INSERT INTO logs_searchstate VALUES (%s, 0, 0)", [changes])
        for searched in SEARCHED:
            for statement in tables(database, searched):
                cursor.execute(statement)
            cursor.execute(f"CREATE INDEX {searched.texts}_conversation ON {searched.texts} ((id >> 32))")
            cursor.execute(f"CREATE TABLE {searched.outdated} (conversation_id bigint PRIMARY KEY)")
    make_triggers(database)


def remove(database: BaseDatabaseWrapper) -> None:
    with database.cursor() as cursor:
        if database.vendor == "postgresql" and database.in_atomic_block:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # no trigger goes while a check on its table is to be made
        for searched in SEARCHED:
            if database.vendor == "postgresql":
                cursor.execute(f"DROP FUNCTION {searched.index}_follow() CASCADE")
            else:
                for name in triggers(searched):
                    cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                cursor.execute(f"DROP TABLE {searched.index}_terms")
                cursor.execute(f"DROP TABLE {searched.index}")
            cursor.execute(f"DROP TABLE {searched.texts}")
            cursor.execute(f"DROP TABLE {searched.outdated}")
        cursor.execute("DROP TABLE logs_searchstate")


def tables(database: BaseDatabaseWrapper, searched: Searched) -> list[str]:
    index, texts = searched.index, searched.texts
    if database.vendor == "postgresql":
        columns = 'id bigint PRIMARY KEY, text text COLLATE "C" NOT NULL'
        return [f"CREATE TABLE {texts} ({columns}) WITH (toast_tuple_target = {INLINE})"]
    return [
        f"CREATE TABLE {texts} (id integer PRIMARY KEY, text text NOT NULL)",
        f"CREATE VIRTUAL TABLE {index} USING"
        f" fts5(text, content='{texts}', content_rowid='id', columnsize=0, tokenize='trigram')",
        f"CREATE VIRTUAL TABLE {index}_terms USING fts5vocab('{index}', 'row')",
    ]


def make_triggers(database: BaseDatabaseWrapper) -> None:
    """All anew: on SQLite they are gone where Django has made a table anew to change its columns."""
    with database.cursor() as cursor:
        for searched in SEARCHED:
            if database.vendor == "postgresql":
                for statement in following(searched):
                    cursor.execute(statement)
            else:
                for name, statement in triggers(searched).items():
                    cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                    cursor.execute(statement)


# SQLite


def triggers(searched: Searched) -> dict[str, str]:
    table, texts, index = searched.table, searched.texts, searched.index

    def outdates(row: str) -> list[str]:
        conversation = f"{row}.{searched.conversation}"
        left = f"SELECT 1 FROM {table} WHERE {searched.conversation} = {conversation} AND id <= {searched.taken_up}"  # noqa: S608
        return [
            f"DELETE FROM {texts} WHERE id >> 32 = {conversation}",  # noqa: S608
            f"DELETE FROM {searched.outdated} WHERE conversation_id = {conversation}",  # noqa: S608
            f"INSERT INTO {searched.outdated} SELECT {conversation} WHERE EXISTS ({left})",
        ]

    deeds = {
        f"{index}_insert": (  # of a row that brings its id
            f"INSERT ON {table} WHEN new.id <= {searched.taken_up}",
            [*outdates("new"), COUNT],
        ),
        f"{index}_delete": (f"DELETE ON {table}", [*outdates("old"), COUNT]),
        f"{index}_update": (
            f"UPDATE OF {searched.changes} ON {table}",
            [*outdates("old"), *outdates("new"), COUNT],
        ),
        f"{texts}_insert": (
            f"INSERT ON {texts}",
            [f"INSERT INTO {index}(rowid, text) VALUES (new.id, new.text)"],  # noqa: S608
        ),
        f"{texts}_delete": (
            f"DELETE ON {texts}",
            [f"INSERT INTO {index}({index}, rowid, text) VALUES ('delete', old.id, old.text)"],  # noqa: S608
        ),
    }
    return {
        name: f"CREATE TRIGGER {name} AFTER {event} BEGIN {'; '.join(statements)}; END"
        for name, (event, statements) in deeds.items()
    }


# PostgreSQL


def following(searched: Searched) -> list[str]:
    """Transaction by transaction: the first thing is the count, in a row that whoever deletes next has to wait for."""
    table, texts, index, outdated = searched.table, searched.texts, searched.index, searched.outdated
    conversation, taken_up = searched.conversation, searched.taken_up
    function = f"""
    DECLARE conversations bigint[];
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            {COUNT}, {index} = 0;
            TRUNCATE {texts}, {outdated};
            RETURN NULL;
        ELSIF TG_OP = 'INSERT' THEN
            conversations := ARRAY(SELECT DISTINCT {conversation} FROM come WHERE id <= {taken_up});
        ELSIF TG_OP = 'DELETE' THEN
            conversations := ARRAY(SELECT DISTINCT {conversation} FROM gone);
        ELSE
            conversations := ARRAY(SELECT DISTINCT unnest(ARRAY[OLD.{conversation}, NEW.{conversation}]));
        END IF;
        IF conversations = '{{}}' THEN
            RETURN NULL;
        END IF;
        {COUNT};
        DELETE FROM {texts} WHERE id >> 32 = ANY(conversations);
        DELETE FROM {outdated} WHERE conversation_id = ANY(conversations);
        INSERT INTO {outdated} SELECT key FROM unnest(conversations) AS key
            WHERE EXISTS (SELECT 1 FROM {table} WHERE {conversation} = key AND id <= {taken_up});
        RETURN NULL;
    END"""  # noqa: S608
    events = {
        "insert": f"INSERT ON {table} REFERENCING NEW TABLE AS come FOR EACH STATEMENT",
        "delete": f"DELETE ON {table} REFERENCING OLD TABLE AS gone FOR EACH STATEMENT",
        "update": f"UPDATE OF {searched.changes} ON {table} FOR EACH ROW",
        "truncate": f"TRUNCATE ON {table} FOR EACH STATEMENT",
    }
    return [
        f"CREATE OR REPLACE FUNCTION {index}_follow() RETURNS trigger LANGUAGE plpgsql AS $${function}$$",
        *(
            f"CREATE OR REPLACE TRIGGER {index}_{name} AFTER {event} EXECUTE FUNCTION {index}_follow()"
            for name, event in events.items()
        ),
    ]


def make_trigram_indexes(database: BaseDatabaseWrapper) -> bool:
    """Whether there are some now: the extension may be absent, or not ours to switch on."""
    try:
        with transaction.atomic(using=database.alias), database.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except DatabaseError:
        return False
    with database.cursor() as cursor:
        for searched in SEARCHED:
            cursor.execute(f"DROP INDEX IF EXISTS {searched.index}")
            cursor.execute(
                f"CREATE INDEX {searched.index} ON {searched.texts} USING gin (text gin_trgm_ops)"
                f" WITH (gin_pending_list_limit = {PENDING_KB})"
            )
            cursor.execute(f"ANALYZE {searched.texts}")
    return True


# For both


def index_added() -> bool:
    """A job of the worker: whether there was enough to do."""
    taken = [take_up_if_free(searched) for searched in SEARCHED]
    return any(taken)


def take_up_if_free(searched: Searched) -> bool:
    try:
        return take_up(connection, searched, at_least=AT_ONCE, patience=PATIENCE)
    except OperationalError:  # somebody writes; later will do
        return False


def take_up(database: BaseDatabaseWrapper, searched: Searched, at_least: int = 1, patience: str | None = None) -> bool:
    """The next AT_ONCE rows and as many outdated conversations; whether there were `at_least` so many, or any outdated.

    PostgreSQL: OperationalError when somebody goes on writing for longer than `patience`; None has no end.
    """
    outdated = f"EXISTS (SELECT 1 FROM {searched.outdated})"  # noqa: S608
    with database.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce((SELECT max(id) FROM {searched.table}), 0) - {searched.taken_up}, {outdated}"  # noqa: S608
        )
        added, is_outdated = cursor.fetchone()
        if added < at_least and not is_outdated:
            return False
        with transaction.atomic(using=database.alias):
            if database.vendor == "postgresql":
                keep_writers_out(cursor, searched, patience)
            if is_outdated:
                take_up_outdated(cursor, searched)
            take_up_added(cursor, searched)
        if database.vendor == "postgresql":
            cursor.execute("SELECT gin_clean_pending_list(to_regclass(%s))", [searched.index])
    return True


def keep_writers_out(cursor: CursorWrapper, searched: Searched, patience: str | None) -> None:
    """Until the transaction ends. A lower id may be committed after a higher one, but not now.

    Who deletes has counted that and then wants the next table, which may be ours while we want to note how far we are:
    the patience ends before PostgreSQL looks for such deadlocks and ends one of the two.
    """
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [patience or "0"])
    cursor.execute(f"LOCK TABLE {searched.table} IN SHARE ROW EXCLUSIVE MODE")


def take_up_outdated(cursor: CursorWrapper, searched: Searched) -> None:
    cursor.execute(f"SELECT conversation_id FROM {searched.outdated} LIMIT {AT_ONCE}")  # noqa: S608
    conversations = [key for (key,) in cursor.fetchall()]
    among = f"IN ({', '.join(['%s'] * len(conversations))})"
    rows = f"{searched.table} WHERE {searched.conversation} {among} AND id <= {searched.taken_up}"
    for statement in [
        f"DELETE FROM {searched.texts} WHERE id >> 32 {among}",  # noqa: S608
        f"INSERT INTO {searched.texts} {texts_of(searched, rows)}",
        f"DELETE FROM {searched.outdated} WHERE conversation_id {among}",  # noqa: S608
    ]:
        cursor.execute(statement, conversations)


def take_up_added(cursor: CursorWrapper, searched: Searched) -> None:
    added = f"(SELECT * FROM {searched.table} WHERE id > {searched.taken_up} ORDER BY id LIMIT {AT_ONCE}) AS added"  # noqa: S608
    newest = f"coalesce((SELECT max(id) FROM {added}), {searched.index})"  # noqa: S608
    cursor.execute(f"INSERT INTO {searched.texts} {texts_of(searched, added)}")
    cursor.execute(f"UPDATE logs_searchstate SET {searched.index} = {newest}")  # noqa: S608


def texts_of(searched: Searched, rows: str) -> str:
    """The key of each is its conversation << 32 | the last of its rows."""
    join = "string_agg" if connection.vendor == "postgresql" else "group_concat"
    text = f"{join}({searched.lower}, '{SEPARATOR}') || '{SEPARATOR * 2}'"
    conversation = searched.conversation
    return f"SELECT ({conversation} << 32) | max(id), {text} FROM {rows} GROUP BY {conversation}"  # noqa: S608


def rebuild() -> Iterator[tuple[str, int]]:
    """Fold every text anew and index it; yields (table, how many of its rows are done) after each step."""
    for searched in SEARCHED:
        yield from renormalize(searched)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT changes FROM logs_searchstate")
            changes = cursor.fetchone()[0]
        remove(connection)
        make_empty(connection, changes + 1)
    for searched in SEARCHED:
        done = 0
        while take_up(connection, searched):
            done += AT_ONCE
            yield searched.index, done
    if connection.vendor == "postgresql":
        make_trigram_indexes(connection)


def renormalize(searched: Searched, apps: Apps = apps) -> Iterator[tuple[str, int]]:
    model = next(model for model in apps.get_app_config("logs").get_models() if model._meta.db_table == searched.table)
    field = next(field for field in model._meta.get_fields() if isinstance(field, NormalizedField))
    rows, last, done = model._default_manager.order_by("pk").only(*field.of, field.name), 0, 0
    while page := list(rows.filter(pk__gt=last)[:AT_ONCE]):
        wrong = [row for row in page if getattr(row, field.name) != field.of_row(row)]
        for row in wrong:
            setattr(row, field.name, field.of_row(row))
        model._default_manager.bulk_update(wrong, [field.name])
        last, done = page[-1].pk, done + len(page)
        yield searched.table, done


def make_after_migrations(using: str, **options: Any) -> None:
    """Make the index where it is missing, and the triggers that SQLite lost when a migration rebuilt their table."""
    database = connections[using]
    tables = database.introspection.table_names()
    if MESSAGES.table not in tables:
        return
    if "logs_searchstate" not in tables:
        make(database)
    elif database.vendor == "sqlite":
        make_triggers(database)


def check_index(databases: Any = None, **options: Any) -> list[CheckMessage]:
    """`manage.py check --database default`, and before migrations."""
    if not databases or "logs_searchstate" not in connection.introspection.table_names():
        return []
    missing = {"sqlite": missing_triggers, "postgresql": missing_indexes}.get(connection.vendor, nothing)()
    if not missing:
        return []
    return [
        Warning(
            f"Searching the conversations is slow or incomplete: {', '.join(missing)} is not there.",
            hint="Run manage.py rebuild_search_index. PostgreSQL needs the extension pg_trgm for it, which its "
            "administrator switches on with CREATE EXTENSION pg_trgm.",
            id="logs.W001",
        )
    ]


def nothing() -> list[str]:
    return []


def missing_triggers() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        there = {name for (name,) in cursor.fetchall()}
    return [name for searched in SEARCHED for name in triggers(searched) if name not in there]


def missing_indexes() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL",
            [[searched.index for searched in SEARCHED]],
        )
        return [name for (name,) in cursor.fetchall()]
