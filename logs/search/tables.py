"""The tables, triggers and indexes of the search, which Django's migrations do not manage.

A conversation has one text per table that is searched: its messages, or the data about its visitor. SQLite indexes
the texts by trigrams in FTS5 tables, PostgreSQL in GIN indexes of pg_trgm.
Sources: https://www.sqlite.org/fts5.html, https://www.postgresql.org/docs/current/pgtrgm.html and .../gin.html
"""

from dataclasses import dataclass

from django.db import DatabaseError, connection, transaction

SEPARATOR = "\x1f"  # between the rows in a text, and twice at its end: so a trigram begins at each character of a row
PENDING_KB = 16 * 1024  # of added texts, before a writer in PostgreSQL has to sort them into the index
INLINE_BYTES = 8160  # of a text that PostgreSQL keeps in its row, uncompressed: a whole page


@dataclass(frozen=True, slots=True)
class SearchedTable:
    """A table whose rows have a text and belong to conversations."""

    table: str
    conversation: str  # the column with the conversation's id
    text: str
    changes: str  # columns that the text, or the conversations that a search finds, depend on
    texts: str  # the table of indexed texts; a key is the conversation's id << 32 | the id of the text's last row
    index: str  # of `texts`; also the column of logs_searchstate with the id of the last row that is indexed

    @property
    def lower(self) -> str:
        """Return the SQL of the text as searches compare it: ASCII in lower case, other text normalized."""
        collate = ' COLLATE "C"' if connection.vendor == "postgresql" else ""
        return f"lower(({self.text}){collate})"

    @property
    def outdated(self) -> str:
        """Return the name of the table of conversations whose text was deleted because one of their rows changed."""
        return f"{self.texts}_outdated"

    @property
    def last_indexed(self) -> str:
        return f"(SELECT {self.index} FROM logs_searchstate)"


MESSAGES = SearchedTable(
    table="logs_message",
    conversation="conversation_id",
    text="coalesce(normalized, content)",
    changes="id, conversation_id, content, normalized",
    texts="logs_messagetext",
    index="logs_messagesearch",
)
VISITORS = SearchedTable(
    table="logs_conversation",
    conversation="id",
    # One value per line. The session of a user is left out, because GET /logs finds guests by it.
    text="CASE WHEN user_id IS NULL THEN coalesce(session_id, '') ELSE '' END || '\n' || coalesce("
    "external_normalized, external_name || '\n' || external_email || '\n' || external_user_id)",
    changes="id, chatbot_id, user_id, session_id, external_name, external_email, external_user_id, external_normalized",
    texts="logs_visitortext",
    index="logs_visitorsearch",
)
SEARCHED = [MESSAGES, VISITORS]

COUNT_CHANGE = "UPDATE logs_searchstate SET changes = changes + 1"


def create() -> None:
    """Create empty tables. The worker indexes the existing rows."""
    with connection.cursor() as cursor:
        columns = ", ".join(f"{name} bigint NOT NULL" for name in ["changes", *(each.index for each in SEARCHED)])
        cursor.execute(f"CREATE TABLE logs_searchstate ({columns})")
        cursor.execute("INSERT INTO logs_searchstate VALUES (0, 0, 0)")
        for searched in SEARCHED:
            for statement in table_statements(searched):
                cursor.execute(statement)
            cursor.execute(f"CREATE INDEX {searched.texts}_conversation ON {searched.texts} ((id >> 32))")
            cursor.execute(f"CREATE TABLE {searched.outdated} (conversation_id bigint PRIMARY KEY)")
    create_triggers()
    if connection.vendor == "postgresql":
        create_trigram_indexes()


def clear() -> None:
    """Delete all texts, whatever state the index is in. On PostgreSQL, drop the indexes too.

    Call create_trigram_indexes() when the texts are complete, because filling an existing index takes longer.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        for searched in SEARCHED:
            if connection.vendor == "postgresql":
                cursor.execute(f"LOCK TABLE {searched.table} IN SHARE ROW EXCLUSIVE MODE")
                cursor.execute(f"DROP INDEX IF EXISTS {searched.index}")
                cursor.execute(f"TRUNCATE {searched.texts}, {searched.outdated}")
            else:
                for name in sqlite_triggers(searched):
                    cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                cursor.execute(f"INSERT INTO {searched.index}({searched.index}) VALUES ('delete-all')")
                cursor.execute(f"DELETE FROM {searched.texts}")
                cursor.execute(f"DELETE FROM {searched.outdated}")
            cursor.execute(f"{COUNT_CHANGE}, {searched.index} = 0")
        create_triggers()


def table_statements(searched: SearchedTable) -> list[str]:
    index, texts = searched.index, searched.texts
    if connection.vendor == "postgresql":
        columns = 'id bigint PRIMARY KEY, text text COLLATE "C" NOT NULL'
        return [f"CREATE TABLE {texts} ({columns}) WITH (toast_tuple_target = {INLINE_BYTES})"]
    return [
        f"CREATE TABLE {texts} (id integer PRIMARY KEY, text text NOT NULL)",
        f"CREATE VIRTUAL TABLE {index} USING"
        f" fts5(text, content='{texts}', content_rowid='id', columnsize=0, tokenize='trigram')",
        f"CREATE VIRTUAL TABLE {index}_terms USING fts5vocab('{index}', 'row')",
    ]


def create_triggers() -> None:
    """Create or replace all triggers: SQLite drops them with a table that Django rebuilds to change its columns."""
    with connection.cursor() as cursor:
        for searched in SEARCHED:
            if connection.vendor == "postgresql":
                for statement in postgresql_triggers(searched):
                    cursor.execute(statement)
            else:
                for name, statement in sqlite_triggers(searched).items():
                    cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                    cursor.execute(statement)


def sqlite_triggers(searched: SearchedTable) -> dict[str, str]:
    table, texts, index = searched.table, searched.texts, searched.index

    def outdate(row: str) -> list[str]:
        conversation = f"{row}.{searched.conversation}"
        rows = f"{table} WHERE {searched.conversation} = {conversation} AND id <= {searched.last_indexed}"
        return [
            f"DELETE FROM {texts} WHERE id >> 32 = {conversation}",
            f"DELETE FROM {searched.outdated} WHERE conversation_id = {conversation}",
            f"INSERT INTO {searched.outdated} SELECT {conversation} WHERE EXISTS (SELECT 1 FROM {rows})",
        ]

    statements = {
        f"{index}_insert": (  # only for a row that is restored under its old id
            f"INSERT ON {table} WHEN new.id <= {searched.last_indexed}",
            [*outdate("new"), COUNT_CHANGE],
        ),
        f"{index}_delete": (f"DELETE ON {table}", [*outdate("old"), COUNT_CHANGE]),
        f"{index}_update": (
            f"UPDATE OF {searched.changes} ON {table}",
            [*outdate("old"), *outdate("new"), COUNT_CHANGE],
        ),
        f"{texts}_insert": (
            f"INSERT ON {texts}",
            [f"INSERT INTO {index}(rowid, text) VALUES (new.id, new.text)"],
        ),
        f"{texts}_delete": (
            f"DELETE ON {texts}",
            [f"INSERT INTO {index}({index}, rowid, text) VALUES ('delete', old.id, old.text)"],
        ),
    }
    return {
        name: f"CREATE TRIGGER {name} AFTER {event} BEGIN {'; '.join(actions)}; END"
        for name, (event, actions) in statements.items()
    }


def postgresql_triggers(searched: SearchedTable) -> list[str]:
    """Return the statements that create one function and a trigger per event.

    The function counts the change first. Other deleting transactions wait for the lock on that count, so deletions run
    one after the other and cannot deadlock over the texts.
    """
    table, texts, index, outdated = searched.table, searched.texts, searched.index, searched.outdated
    conversation, last_indexed = searched.conversation, searched.last_indexed
    function = f"""
    DECLARE conversations bigint[];
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            {COUNT_CHANGE}, {index} = 0;
            TRUNCATE {texts}, {outdated};
            RETURN NULL;
        ELSIF TG_OP = 'INSERT' THEN
            conversations := ARRAY(SELECT DISTINCT {conversation} FROM inserted WHERE id <= {last_indexed});
        ELSIF TG_OP = 'DELETE' THEN
            conversations := ARRAY(SELECT DISTINCT {conversation} FROM deleted);
        ELSE
            conversations := ARRAY(SELECT DISTINCT unnest(ARRAY[OLD.{conversation}, NEW.{conversation}]));
        END IF;
        IF conversations = '{{}}' THEN
            RETURN NULL;
        END IF;
        {COUNT_CHANGE};
        DELETE FROM {texts} WHERE id >> 32 = ANY(conversations);
        DELETE FROM {outdated} WHERE conversation_id = ANY(conversations);
        INSERT INTO {outdated} SELECT key FROM unnest(conversations) AS key
            WHERE EXISTS (SELECT 1 FROM {table} WHERE {conversation} = key AND id <= {last_indexed});
        RETURN NULL;
    END"""
    events = {
        "insert": f"INSERT ON {table} REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT",
        "delete": f"DELETE ON {table} REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT",
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


def create_trigram_indexes() -> None:
    """Create PostgreSQL's indexes, unless pg_trgm is not installed or this user may not enable it."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except DatabaseError:
        return
    with connection.cursor() as cursor:
        for searched in SEARCHED:
            cursor.execute(f"DROP INDEX IF EXISTS {searched.index}")
            cursor.execute(
                f"CREATE INDEX {searched.index} ON {searched.texts} USING gin (text gin_trgm_ops)"
                f" WITH (gin_pending_list_limit = {PENDING_KB})"
            )
            cursor.execute(f"ANALYZE {searched.texts}")
