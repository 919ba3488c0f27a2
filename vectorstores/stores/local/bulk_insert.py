"""Insert many rows of LocalVector: on PostgreSQL by COPY, which is several times as fast as INSERT.

Source: https://www.postgresql.org/docs/current/sql-copy.html
"""

import json
from collections.abc import Sequence

from django.db import connection

from vectorstores.models import LocalVector

ROWS_AT_ONCE = 500
COLUMNS = (
    "id", "collection_id", "namespace", "vector_id", "parent_vector_id", "values", "title", "headings", "text",
    "metadata", "scope",
)  # fmt: skip


def insert_rows(rows: Sequence[LocalVector]) -> None:
    """Insert the rows and set their primary keys, which ascend and are higher than all before."""
    if connection.vendor == "postgresql" and rows:
        copy_rows(rows)
    else:
        LocalVector.objects.bulk_create(rows, batch_size=ROWS_AT_ONCE)


def copy_rows(rows: Sequence[LocalVector]) -> None:
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    statement = f"COPY vectorstores_localvector ({columns}) FROM STDIN"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence('vectorstores_localvector', 'id')) FROM generate_series(1, %s)",
            [len(rows)],
        )
        keys = sorted(key for (key,) in cursor.fetchall())
        with connection.wrap_database_errors, cursor.copy(statement) as copy:
            for key, row in zip(keys, rows, strict=True):
                row.pk = key
                values = [getattr(row, name) for name in COLUMNS]
                values[COLUMNS.index("metadata")] = json.dumps(row.metadata)
                copy.write_row(values)
