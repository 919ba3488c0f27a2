"""Bulk insert by precompiled statements.

bulk_create() compiles its statement on every call, which takes longer than inserting the few rows of a turn.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from django.db import connection, models

# Fields whose values need no conversion for the database. Other fields convert their own.
PLAIN = {
    models.BooleanField,
    models.CharField,
    models.ForeignKey,
    models.PositiveBigIntegerField,
    models.PositiveIntegerField,
    models.PositiveSmallIntegerField,
    models.TextField,
}
MAX_PARAMETERS = 10_000  # of a statement, where the database has no limit

Row = Sequence[Any]


def insert(rows: Iterable[models.Model], then: str = "") -> list[Row]:
    """Insert rows of one model in their order. Return what the clauses in `then`, such as ON CONFLICT, return.

    The objects get no primary keys, and no signals are sent.
    """
    remaining, returned = iter(rows), list[Row]()
    with connection.cursor() as cursor:
        while first := next(remaining, None):
            model = type(first)
            columns = fields_of(model)
            size = (connection.features.max_query_params or MAX_PARAMETERS) // len(columns)
            values = values_of(model)
            parameters = [values(row) for row in chain([first], islice(remaining, size - 1))]
            cursor.execute(statement(model, len(parameters), then), list(chain.from_iterable(parameters)))
            if cursor.description:
                returned += cursor.fetchall()
    return returned


@cache
def fields_of(model: type[models.Model]) -> list[models.Field]:
    return [field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)]


@cache
def statement(model: type[models.Model], count: int, then: str) -> str:
    fields = fields_of(model)
    columns = ", ".join(str(field.column) for field in fields)
    values = f"({', '.join(['%s'] * len(fields))})"
    return f"INSERT INTO {model._meta.db_table} ({columns}) VALUES {', '.join([values] * count)} {then}"  # noqa: S608


@cache
def values_of(model: type[models.Model]) -> Callable[[models.Model], list[Any]]:
    """Return a function that returns the values of a row, in the order of fields_of()."""
    fields = fields_of(model)
    plain = attrgetter(*(field.attname for field in fields))
    others = [(number, field) for number, field in enumerate(fields) if type(field) not in PLAIN]

    def values(row: models.Model) -> list[Any]:
        found = list(plain(row))
        for number, field in others:
            value = field.pre_save(row, True)
            found[number] = None if value is None else field.get_db_prep_save(value, connection)
        return found

    return values
