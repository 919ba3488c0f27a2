"""What SQLite keeps in its files of rows that were deleted, or that were longer once: copies in space that is free.

Nothing reads those, but who searches the file finds them. PostgreSQL has VACUUM for it: see docs/privacy.md.
"""

from django.db import connection

PAGES_AT_ONCE = 1000  # of an index for text, written in one go: between two of them others may write


def scrub_deleted_rows() -> bool:
    """Write the database anew, without them. False: a reader kept the old write-ahead log in use, so try again.

    Not within a transaction. Others can't write meanwhile, which may take half a minute for each gigabyte.
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
    """An FTS5 index notes that a text was deleted, and forgets it where the parts of the index are merged into one.

    Source: https://www.sqlite.org/fts5.html#the_merge_command
    """
    pages = -PAGES_AT_ONCE  # negative: a new merge of all parts; then on with that
    while True:
        before = connection.connection.total_changes
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {index}({index}, rank) VALUES ('merge', %s)", [pages])  # noqa: S608
        if connection.connection.total_changes - before < 2:
            return
        pages = PAGES_AT_ONCE
