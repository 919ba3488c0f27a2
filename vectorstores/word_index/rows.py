"""The rows of LocalVector: made of chunks, selected, and inserted many at once."""

import json
from collections.abc import Collection as Values
from collections.abc import Sequence

from django.db import connection
from django.db.models import Q

from puffer.text import storable
from vectorstores.base import Vector
from vectorstores.models import Collection, LocalVector
from vectorstores.word_index.keywords import scope_of

ROWS_AT_ONCE = 500
COLUMNS = (
    "id", "collection_id", "namespace", "vector_id", "parent_vector_id", "values", "title", "headings", "text",
    "metadata", "scope",
)  # fmt: skip


def row_of(vector: Vector, collection: Collection, namespace: str) -> LocalVector:
    """Return a row with the words of a chunk. The local store adds the vector and the metadata.

    Another store may return characters that our database cannot hold.
    """
    return LocalVector(
        collection=collection,
        namespace=namespace,
        vector_id=vector.id,
        parent_vector_id=vector.parent_id,
        values=b"",
        title=text_in(vector, "title"),
        headings=text_in(vector, "headings"),
        text=storable(vector.text),
        scope=scope_of(collection, namespace),
    )


def text_in(vector: Vector, name: str) -> str:
    value = vector.metadata.get(name, "")
    return storable(value) if isinstance(value, str) else ""


def of_parents(vectors: Sequence[Vector]) -> list[Q]:
    return in_parts("parent_vector_id", {vector.parent_id for vector in vectors})


def with_ids(vectors: Sequence[Vector]) -> list[Q]:
    return in_parts("vector_id", {vector.id for vector in vectors})


def in_parts(column: str, values: Values[str]) -> list[Q]:
    """Split the values into several conditions, because databases limit the number of parameters."""
    ordered = sorted(values)
    parts = range(0, len(ordered), ROWS_AT_ONCE)
    return [Q(**{f"{column}__in": ordered[at : at + ROWS_AT_ONCE]}) for at in parts]


def insert_rows(rows: Sequence[LocalVector]) -> None:
    """Insert the rows and set their primary keys, which ascend and are higher than all before.

    On PostgreSQL, COPY is several times as fast as INSERT. Source: https://www.postgresql.org/docs/current/sql-copy.html
    """
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
