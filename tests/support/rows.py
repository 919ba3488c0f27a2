"""Parameter tables in which only some providers need every row."""

from collections.abc import Iterable
from typing import Any


def crossed(every: Iterable[Any], some: Iterable[Any], rows: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return the first row combined with each provider of `every`, and the other rows with each provider of `some`.

    Providers of one protocol share an adapter, so `some` names one provider per adapter; the first row covers what each
    provider adds.
    """
    first, *others = rows
    return [
        (*as_tuple(one), *as_tuple(row))
        for row, these in [(first, every), *((row, some) for row in others)]
        for one in these
    ]


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
