"""Look at what a source has become."""

from vectorstores.models import Source


def counts(source: Source) -> dict[str, int]:
    """Return the counts of the latest run that are not zero."""
    names = ("new", "changed", "unchanged", "left_out", "failed", "removed")
    return {name: count for name in names if (count := getattr(source, name))}


def states(source: Source) -> dict[str, str]:
    """Return the states of the pages by the last part of their address."""
    return {address.rpartition("/")[2]: state for address, state in source.pages.values_list("address", "state")}


def reasons(source: Source) -> dict[str, str]:
    return {address.rpartition("/")[2]: error for address, error in source.pages.values_list("address", "error")}
