"""Tables of parameters in which not every provider needs every row."""

from collections.abc import Iterable
from typing import Any


def crossed(every: Iterable[Any], some: Iterable[Any], rows: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Cross the first row with each of `every`, the others with each of `some`: one of each adapter.

    Providers of one protocol share their adapter. The first row shows what a provider adds of its own.
    """
    first, *others = rows
    return [
        (*as_tuple(one), *as_tuple(row))
        for row, these in [(first, every), *((row, some) for row in others)]
        for one in these
    ]


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
