"""What makes logs/search.py fast, beside the tables that Django knows: made in migration 0005.

SQLite: FTS5 tables of trigrams. To index a row takes as long as to write it, a thousand at once half of that, so the
index follows: the worker takes up what was added, and where there is none, triggers do. What it does not hold yet is
looked through row by row. Changes and deletions count at once, by triggers. A table that is rebuilt, as Django does to
change a column, loses them, so they are made again after all migrations. Source: https://www.sqlite.org/fts5.html
PostgreSQL: trigram indexes, where the server has pg_trgm, with a list of what was added, which the worker empties.
Sources: https://www.postgresql.org/docs/current/pgtrgm.html and .../gin.html
Both: a count of the changes that are no additions, so that kept results are known to be outdated.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.apps.registry import Apps
from django.core.checks import CheckMessage, Warning
from django.db import DatabaseError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from logs.folding import FoldedField

AT_ONCE = 1000  # rows in a transaction: a visitor's turn may have to wait for it
LEFT_TO_WORKER = 4 * AT_ONCE  # rows that are not indexed yet, before triggers do it
PENDING_KB = 16 * 1024  # of what was added, before PostgreSQL sorts it in while somebody waits


@dataclass(frozen=True, slots=True)
class Searched:
    """Rows of a table, by text, which lead to conversations. `{0}` is where a trigger writes `new.` or `old.`."""

    table: str
    conversation: str  # the column
    text: str
    changes: str  # columns that the text, or which conversations are found, depends on
    index: str
    key: str  # of a row in the index of SQLite, in the order of conversations so that counting them is one walk
    to_conversation: str
    to_row: str

    @property
    def lower(self) -> str:
        """As it is compared. Letter case goes by ASCII here, the rest is in the folded columns."""
        collate = ' COLLATE "C"' if connection.vendor == "postgresql" else ""
        return f"lower(({self.text.format('')}){collate})"


MESSAGES = Searched(
    table="logs_message",
    conversation="conversation_id",
    text="coalesce({0}folded, {0}content)",
    changes="id, conversation_id, content, folded",
    index="logs_messagesearch",
    key="(({0}conversation_id << 32) | {0}id)",
    to_conversation="rowid >> 32",
    to_row="logs_messagesearch.rowid & 4294967295",
)
VISITORS = Searched(
    table="logs_conversation",
    conversation="id",
    # A line each, and none of a session where there is a user.
    text="CASE WHEN {0}user_id IS NULL THEN coalesce({0}session_id, '') ELSE '' END || '\n' || coalesce("
    "{0}external_folded, {0}external_name || '\n' || {0}external_email || '\n' || {0}external_user_id)",
    changes="id, chatbot_id, user_id, session_id, external_name, external_email, external_user_id, external_folded",
    index="logs_visitorsearch",
    key="{0}id",
    to_conversation="rowid",
    to_row="logs_visitorsearch.rowid",
)
SEARCHED = [MESSAGES, VISITORS]

COUNT = "UPDATE logs_searchstate SET changes = changes + 1"
STATE = [
    # Of each index the highest id of a row that it holds.
    "CREATE TABLE logs_searchstate"
    " (changes bigint NOT NULL, logs_messagesearch bigint NOT NULL, logs_visitorsearch bigint NOT NULL)",
    "INSERT INTO logs_searchstate VALUES (0, 0, 0)",
]


def make(database: BaseDatabaseWrapper) -> None:
    with database.cursor() as cursor:
        for statement in STATE:
            cursor.execute(statement)
    if database.vendor == "sqlite":
        make_tables(database)
        make_triggers(database)
        for searched in SEARCHED:
            while advance(database, searched):
                pass
    elif database.vendor == "postgresql":
        make_counters(database)
        make_trigram_indexes(database)


def remove(database: BaseDatabaseWrapper) -> None:
    with database.cursor() as cursor:
        for searched in SEARCHED:
            if database.vendor == "sqlite":
                for name in triggers(searched):
                    cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                cursor.execute(f"DROP TABLE {searched.index}_terms")
                cursor.execute(f"DROP TABLE {searched.index}")
            elif database.vendor == "postgresql":
                cursor.execute(f"DROP TRIGGER {searched.index}_changed ON {searched.table}")
                cursor.execute(f"DROP TRIGGER {searched.index}_emptied ON {searched.table}")
                cursor.execute(f"DROP INDEX IF EXISTS {searched.index}")
        if database.vendor == "postgresql":
            cursor.execute("DROP FUNCTION logs_search_changed()")
        cursor.execute("DROP TABLE logs_searchstate")


# SQLite


def body(searched: Searched, row: str) -> str:
    """With two more characters, so that at each one of the text a trigram begins."""
    return f"{searched.text.format(row)} || '\n\n'"


def advancing(searched: Searched) -> list[str]:
    """Statements that index the next AT_ONCE rows."""
    index, table = searched.index, searched.table
    following = f"FROM {table} WHERE id > (SELECT {index} FROM logs_searchstate) ORDER BY id LIMIT {AT_ONCE}"  # noqa: S608
    return [
        f"INSERT INTO {index}(rowid, body) SELECT {searched.key.format('')}, {body(searched, '')}"  # noqa: S608
        f" FROM (SELECT * {following}) ORDER BY {searched.conversation}, id",
        f"UPDATE logs_searchstate SET {index} = coalesce((SELECT max(id) FROM (SELECT id {following})), {index})",  # noqa: S608
    ]


def triggers(searched: Searched) -> dict[str, str]:
    index, table = searched.index, searched.table
    held = f"(SELECT {index} FROM logs_searchstate)"  # noqa: S608
    new, old = [f"{searched.key.format(row)}, {body(searched, row)}" for row in ("new.", "old.")]
    insert = f"INSERT INTO {index}(rowid, body) VALUES ({new})"  # noqa: S608
    delete = f"INSERT INTO {index}({index}, rowid, body) SELECT 'delete', {old} WHERE old.id <= {held}"
    insert_too = f"INSERT INTO {index}(rowid, body) SELECT {new} WHERE new.id <= {held}"
    left_alone = f"new.id % {AT_ONCE} = 0 AND new.id - {held} >= {LEFT_TO_WORKER}"
    deeds = {
        "advance": (f"INSERT ON {table} WHEN {left_alone}", advancing(searched)),
        "insert": (f"INSERT ON {table} WHEN new.id <= {held}", [insert, COUNT]),  # of a row that brings its id
        "delete": (f"DELETE ON {table}", [delete, COUNT]),
        "update": (f"UPDATE OF {searched.changes} ON {table}", [delete, insert_too, COUNT]),
    }
    return {
        f"{index}_{name}": f"CREATE TRIGGER {index}_{name} AFTER {event} BEGIN {'; '.join(statements)}; END"
        for name, (event, statements) in deeds.items()
    }


def make_tables(database: BaseDatabaseWrapper) -> None:
    with database.cursor() as cursor:
        for searched in SEARCHED:
            cursor.execute(
                f"CREATE VIRTUAL TABLE {searched.index} USING fts5(body, content='', columnsize=0, tokenize='trigram')"
            )
            cursor.execute(f"CREATE VIRTUAL TABLE {searched.index}_terms USING fts5vocab('{searched.index}', 'row')")


def make_triggers(database: BaseDatabaseWrapper) -> None:
    """All anew: they are gone where Django has made a table anew to change its columns."""
    with database.cursor() as cursor:
        for searched in SEARCHED:
            for name, statement in triggers(searched).items():
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                cursor.execute(statement)


# PostgreSQL


def make_counters(database: BaseDatabaseWrapper) -> None:
    with database.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION logs_search_changed() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$BEGIN {COUNT}; RETURN NULL; END$$"
        )
        for searched in SEARCHED:
            for name, event in {
                "changed": f"DELETE OR UPDATE OF {searched.changes}",
                "emptied": "TRUNCATE",
            }.items():
                cursor.execute(
                    f"CREATE TRIGGER {searched.index}_{name} AFTER {event} ON {searched.table}"
                    " FOR EACH STATEMENT EXECUTE FUNCTION logs_search_changed()"
                )


def make_trigram_indexes(database: BaseDatabaseWrapper) -> bool:
    """Whether there are some now: the extension may be absent, or not ours to switch on."""
    try:
        with transaction.atomic(using=database.alias), database.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except DatabaseError:
        return False
    with database.cursor() as cursor:
        if database.in_atomic_block:  # where no index is made while a check on its table is still to be made
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for searched in SEARCHED:
            cursor.execute(f"DROP INDEX IF EXISTS {searched.index}")
            cursor.execute(
                f"CREATE INDEX {searched.index} ON {searched.table} USING gin (({searched.lower}) gin_trgm_ops)"
                f" WITH (gin_pending_list_limit = {PENDING_KB})"
            )
    return True


# For both


def index_added() -> bool:
    """A job of the worker: whether there was enough to do."""
    advanced = [advance(connection, searched, at_least=AT_ONCE) for searched in SEARCHED]
    return any(advanced)


def advance(database: BaseDatabaseWrapper, searched: Searched, at_least: int = 1) -> bool:
    """Take up the next AT_ONCE rows; whether there were so many. On PostgreSQL, all that were added."""
    index = searched.index
    waiting = f"SELECT coalesce((SELECT max(id) FROM {searched.table}), 0), {index} FROM logs_searchstate"  # noqa: S608
    with database.cursor() as cursor:
        cursor.execute(waiting)
        newest, held = cursor.fetchone()
        if newest - held < at_least:
            return False
        if database.vendor == "sqlite":
            with transaction.atomic(using=database.alias):
                for statement in advancing(searched):
                    cursor.execute(statement)
        elif database.vendor == "postgresql":
            cursor.execute("SELECT gin_clean_pending_list(to_regclass(%s))", [index])
            cursor.execute(f"UPDATE logs_searchstate SET {index} = %s", [newest])  # noqa: S608
    return True


def rebuild() -> Iterator[tuple[str, int]]:
    """Fold every text anew and index it; yields (table, how many of its rows are done) after each step."""
    for searched in SEARCHED:
        yield from fold_anew(searched)
    if connection.vendor == "sqlite":
        for searched in SEARCHED:
            yield from index_anew(searched)
    elif connection.vendor == "postgresql":
        make_trigram_indexes(connection)
        with connection.cursor() as cursor:
            for searched in SEARCHED:
                cursor.execute(f"ANALYZE {searched.table}")
    with connection.cursor() as cursor:
        cursor.execute(COUNT)


def fold_anew(searched: Searched, apps: Apps = apps) -> Iterator[tuple[str, int]]:
    model = next(model for model in apps.get_app_config("logs").get_models() if model._meta.db_table == searched.table)
    field = next(field for field in model._meta.get_fields() if isinstance(field, FoldedField))
    rows, last, done = model._default_manager.order_by("pk").only(*field.of, field.name), 0, 0
    while page := list(rows.filter(pk__gt=last)[:AT_ONCE]):
        wrong = [row for row in page if getattr(row, field.name) != field.of_row(row)]
        for row in wrong:
            setattr(row, field.name, field.of_row(row))
        model._default_manager.bulk_update(wrong, [field.name])
        last, done = page[-1].pk, done + len(page)
        yield searched.table, done


def index_anew(searched: Searched) -> Iterator[tuple[str, int]]:
    """Until it has come to its end, what is not in the index is looked through row by row."""
    with transaction.atomic(), connection.cursor() as cursor:
        make_triggers(connection)
        cursor.execute(f"INSERT INTO {searched.index}({searched.index}) VALUES ('delete-all')")  # noqa: S608
        cursor.execute(f"{COUNT}, {searched.index} = 0")
    done = 0
    while advance(connection, searched):
        done += AT_ONCE
        yield searched.index, done


def keep_in_step(using: str, **options: Any) -> None:
    """After migrations, which may have rebuilt a table of SQLite."""
    database = connections[using]
    if database.vendor == "sqlite" and "logs_searchstate" in database.introspection.table_names():
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
