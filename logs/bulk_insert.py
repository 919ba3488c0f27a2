"""Inserting rows by a statement that is composed once for all.

bulk_create() composes it and prepares every value anew: for the few rows of a transaction that takes several times as
long as the database itself does.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from django.db import connection, models

# Fields whose values a database takes as they are; what other fields make of theirs is left to them.
PLAIN = {
    models.BooleanField,
    models.CharField,
    models.ForeignKey,
    models.PositiveBigIntegerField,
    models.PositiveIntegerField,
    models.PositiveSmallIntegerField,
    models.TextField,
}
MOST_PARAMETERS = 10_000  # of a statement, where the database names no limit

Row = Sequence[Any]


def insert(rows: Iterable[models.Model], then: str = "") -> list[Row]:
    """What the statement returns, where `then` makes it: what follows the values, such as ON CONFLICT or RETURNING.

    The rows are of one model and are inserted in their order. They get no keys, and nobody is told by a signal.
    """
    remaining, returned = iter(rows), list[Row]()
    with connection.cursor() as cursor:
        while first := next(remaining, None):
            model = type(first)
            columns = fields_of(model)
            at_once = (connection.features.max_query_params or MOST_PARAMETERS) // len(columns)
            values = values_of(model)
            parameters = [values(row) for row in chain([first], islice(remaining, at_once - 1))]
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
    """A function that gives the values of a row, in the order of fields_of()."""
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
