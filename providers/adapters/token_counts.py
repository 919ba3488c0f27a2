"""Convert a provider's token counts to Usage."""

from typing import Any

from providers.base import Usage

MAX_COUNT = 2**31 - 1  # the largest value of the usage record's columns


def read_counts(tokens_in: Any, tokens_out: Any, total: Any = None, **extra: Any) -> Usage:
    """Return the counts as integers, whatever was sent. A missing total is their sum."""
    tokens_in, tokens_out = count(tokens_in), count(tokens_out)
    return Usage(
        tokens_in,
        tokens_out,
        count(total) or count(tokens_in + tokens_out),
        {name: count(value) for name, value in extra.items()},
    )


def count(value: Any) -> int:
    return int(min(max(value, 0), MAX_COUNT)) if isinstance(value, int | float) else 0
