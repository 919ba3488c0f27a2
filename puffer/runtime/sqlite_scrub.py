"""Overwrite deleted and shortened rows in SQLite's files, where they remain in free pages.

No query returns such rows, but anyone who reads the file can find them. For PostgreSQL see docs/privacy.md.
"""

from django.db import connection

PAGES_AT_ONCE = 1000  # of a full-text index, per transaction, so that other writers get their turn


def scrub_deleted_rows() -> bool:
    """Rewrite the database without deleted rows. Return False if a reader kept the write-ahead log in use: then retry.

    Call it outside a transaction. It blocks other writers, for up to half a minute per gigabyte.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%%using fts5(%%'")
        for (index,) in cursor.fetchall():
            _merge(connection.ops.quote_name(index))
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        is_busy, *_ = cursor.fetchone()
    return not is_busy


def _merge(index: str) -> None:
    """Merge all parts of an FTS5 index, because only a merge removes the texts that were marked as deleted.

    Source: https://www.sqlite.org/fts5.html#the_merge_command
    """
    pages = -PAGES_AT_ONCE  # negative starts a merge of all parts; positive continues it
    while True:
        before = connection.connection.total_changes
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {index}({index}, rank) VALUES ('merge', %s)", [pages])  # noqa: S608
        if connection.connection.total_changes - before < 2:
            return
        pages = PAGES_AT_ONCE
