"""What the admin shows of a source: its state, and the counts of its latest run."""

from typing import Any

from django.utils.translation import gettext_lazy

from vectorstores.refresh.models import CANCELLED, Source, SourcePage

OUTCOMES = (  # counts of a run, and their labels
    ("new", gettext_lazy("new")),
    ("changed", gettext_lazy("changed")),
    ("unchanged", gettext_lazy("unchanged")),
    ("left_out", gettext_lazy("left out")),
    ("failed", gettext_lazy("failed")),
    ("removed", gettext_lazy("removed")),
)
STATES = {  # of a source: key -> label, and unfold's color of it
    "looking": (gettext_lazy("looking for pages"), "info"),
    "reading": (gettext_lazy("reading pages"), "info"),
    "removing": (gettext_lazy("removing documents"), "info"),
    "stopping": (gettext_lazy("stopping"), "warning"),
    "waiting": (gettext_lazy("waiting"), "info"),
    "retrying": (gettext_lazy("retrying"), "warning"),
    "preview": (gettext_lazy("not stored yet"), "warning"),
    "confirm": (gettext_lazy("needs a confirmation"), "warning"),
    "failed": (gettext_lazy("failed"), "danger"),
    "partial": (gettext_lazy("some pages failed"), "warning"),
    "stored": (gettext_lazy("up to date"), "success"),
    "cancelled": (gettext_lazy("cancelled"), "warning"),
}
COLORS = {key: color for key, (_label, color) in STATES.items()}


def state_of(source: Source) -> str:
    """Return the key of the source's state in STATES."""
    if source.is_busy:
        return busy_state_of(source)
    if source.last_error:
        return "cancelled" if source.last_error == CANCELLED else "failed"
    if not source.is_approved:
        return "preview"
    if source.has_held_removals:
        return "confirm"
    return "partial" if source.failed else "stored"


def busy_state_of(source: Source) -> str:
    if source.is_cancelled:
        return "stopping"
    if source.last_error:
        return "retrying"
    phases = {Source.Phase.LISTING: "looking", Source.Phase.READING: "reading", Source.Phase.REMOVING: "removing"}
    return phases[Source.Phase(source.phase)] if source.phase else "waiting"


def counts_of(source: Source) -> dict[str, Any]:
    listed = source.pages.filter(listed_run=source.run)
    return {
        "outcomes": [(label, getattr(source, name)) for name, label in OUTCOMES],
        "listed": listed.count(),
        "read": listed.filter(read_run=source.run).count(),
        "known": source.pages.count(),
        "stored": source.pages.filter(documents__gt=0).count(),
        "vanished": source.pages.filter(state=SourcePage.State.VANISHED).count(),
    }
