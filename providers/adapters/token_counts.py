"""A provider's token counts -> Usage."""

from typing import Any

from providers.base import Usage

MAX_COUNT = 2**31 - 1  # what a column of the usage records holds


def read_counts(tokens_in: Any, tokens_out: Any, total: Any = None, **extra: Any) -> Usage:
    """The counts as integers, whatever was sent; a missing total is their sum."""
    tokens_in, tokens_out = count(tokens_in), count(tokens_out)
    return Usage(
        tokens_in,
        tokens_out,
        count(total) or count(tokens_in + tokens_out),
        {name: count(value) for name, value in extra.items()},
    )


def count(value: Any) -> int:
    return int(min(max(value, 0), MAX_COUNT)) if isinstance(value, int | float) else 0
