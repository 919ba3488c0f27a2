"""Index new and changed rows for the search, some time after they were written.

Indexing a single row takes as long as writing it; in a batch of a thousand, a row takes far less. So the worker indexes
batches, and until then a search scans the new rows one by one.
"""

from collections.abc import Iterator

from django.apps import apps
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from logs.search.normalize import NormalizedField
from logs.search.tables import SEARCHED, SEPARATOR, SearchedTable, clear, create_trigram_indexes

BATCH = 1000  # rows, or outdated conversations, in a transaction: a visitor's turn may have to wait for it
# How long the worker waits for the table lock on PostgreSQL. While it waits, new writers queue behind it.
LOCK_TIMEOUT = "50ms"


def run_due() -> bool:
    """Index a batch of each table; return False if no table had enough rows for one. One of settings.WORKER_JOBS."""
    indexed = [index_if_free(searched) for searched in SEARCHED]
    return any(indexed)


def index_if_free(searched: SearchedTable) -> bool:
    """Index a batch. Return False if there are too few rows for one, or if other writers hold the table."""
    try:
        return index_batch(searched, at_least=BATCH, lock_timeout=LOCK_TIMEOUT)
    except OperationalError:
        return False


def index_batch(searched: SearchedTable, at_least: int = 1, lock_timeout: str = "0") -> bool:
    """Index the next rows and outdated conversations. Return False if there are fewer rows than `at_least`.

    Raise OperationalError if, on PostgreSQL, another transaction holds the table for longer than `lock_timeout`. "0"
    waits forever.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce((SELECT max(id) FROM {searched.table}), 0) - {searched.last_indexed},"
            f" EXISTS (SELECT 1 FROM {searched.outdated})"
        )
        added, has_outdated = cursor.fetchone()
        if added < at_least and not has_outdated:
            return False
        with transaction.atomic():
            if connection.vendor == "postgresql":
                lock_out_writers(cursor, searched, lock_timeout)
            if has_outdated:
                index_outdated(cursor, searched)
            index_added(cursor, searched)
        if connection.vendor == "postgresql":
            cursor.execute("SELECT gin_clean_pending_list(to_regclass(%s))", [searched.index])
    return True


def lock_out_writers(cursor: CursorWrapper, searched: SearchedTable, lock_timeout: str) -> None:
    """Keep other transactions from writing until this one ends, so that no lower id is committed after a higher one.

    A deleting transaction locks the row that counts changes, then the next table. This transaction locks them in the
    opposite order, so the two may deadlock. The timeout ends this one before PostgreSQL would abort either of them.
    """
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [lock_timeout])
    cursor.execute(f"LOCK TABLE {searched.table} IN SHARE ROW EXCLUSIVE MODE")


def index_outdated(cursor: CursorWrapper, searched: SearchedTable) -> None:
    cursor.execute(f"SELECT conversation_id FROM {searched.outdated} LIMIT {BATCH}")
    conversations = [key for (key,) in cursor.fetchall()]
    among = f"IN ({', '.join(['%s'] * len(conversations))})"
    rows = f"{searched.table} WHERE {searched.conversation} {among} AND id <= {searched.last_indexed}"
    for statement in [
        f"DELETE FROM {searched.texts} WHERE id >> 32 {among}",
        f"INSERT INTO {searched.texts} {texts_of(searched, rows)}",
        f"DELETE FROM {searched.outdated} WHERE conversation_id {among}",
    ]:
        cursor.execute(statement, conversations)


def index_added(cursor: CursorWrapper, searched: SearchedTable) -> None:
    added = f"(SELECT * FROM {searched.table} WHERE id > {searched.last_indexed} ORDER BY id LIMIT {BATCH}) AS added"
    last = f"coalesce((SELECT max(id) FROM {added}), {searched.index})"
    cursor.execute(f"INSERT INTO {searched.texts} {texts_of(searched, added)}")
    cursor.execute(f"UPDATE logs_searchstate SET {searched.index} = {last}")


def texts_of(searched: SearchedTable, rows: str) -> str:
    join = "string_agg" if connection.vendor == "postgresql" else "group_concat"
    text = f"{join}({searched.lower}, '{SEPARATOR}') || '{SEPARATOR * 2}'"
    conversation = searched.conversation
    return f"SELECT ({conversation} << 32) | max(id), {text} FROM {rows} GROUP BY {conversation}"


def rebuild() -> Iterator[tuple[str, int]]:
    """Normalize and index every row again. Yield a table's name and how many of its rows are done, after each step."""
    for searched in SEARCHED:
        yield from renormalize(searched)
    clear()
    for searched in SEARCHED:
        done = 0
        while index_batch(searched):
            done += BATCH
            yield searched.index, done
    if connection.vendor == "postgresql":
        create_trigram_indexes()


def renormalize(searched: SearchedTable) -> Iterator[tuple[str, int]]:
    model = next(model for model in apps.get_app_config("logs").get_models() if model._meta.db_table == searched.table)
    field = next(field for field in model._meta.get_fields() if isinstance(field, NormalizedField))
    rows, last, done = model._default_manager.order_by("pk").only(*field.of, field.name), 0, 0
    while page := list(rows.filter(pk__gt=last)[:BATCH]):
        wrong = [row for row in page if getattr(row, field.name) != field.of_row(row)]
        for row in wrong:
            setattr(row, field.name, field.of_row(row))
        model._default_manager.bulk_update(wrong, [field.name])
        last, done = page[-1].pk, done + len(page)
        yield searched.table, done
