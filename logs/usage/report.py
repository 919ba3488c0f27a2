"""The usage report of the dashboard: totals by day, and by chatbot, provider, model and API key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum, Value
from django.db.models.functions import Concat
from django.utils import timezone

from logs.models import DURATIONS, ConversationDailyTotal, DailyTotal, UsageDailyTotal, UsageEvent
from logs.usage.daily_totals import FAILED

COUNTED = ["calls", "errors", "input_tokens", "output_tokens", "images", "cost", "without_price"]
ANSWERS = Q(operation=UsageEvent.Operation.COMPLETION)  # the calls whose durations count as answer times
DIMENSIONS = ["chatbot_id", "chatbot__name", "api_key_id", "api_key__name", "provider", "model"]


@dataclass
class Totals:
    """The measures of a period, or of a row of a table."""

    conversations: int = 0
    messages: int = 0
    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    images: int = 0
    cost: Decimal = Decimal(0)
    without_price: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * len(UsageDailyTotal.histogram))

    def add(self, sums: Mapping[str, Any]) -> None:
        """Add a row of sums_of()."""
        for name in [*ConversationDailyTotal.measures, *COUNTED]:
            setattr(self, name, getattr(self, name) + sums.get(f"sum_of_{name}", 0))
        for index, name in enumerate(UsageDailyTotal.histogram):
            self.histogram[index] += sums.get(f"sum_of_{name}", 0)

    def include(self, other: "Totals") -> None:
        for name in [*ConversationDailyTotal.measures, *COUNTED]:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.histogram = [mine + more for mine, more in zip(self.histogram, other.histogram, strict=True)]

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def p50(self) -> int | None:
        return percentile(self.histogram, 0.5)

    @property
    def p95(self) -> int | None:
        return percentile(self.histogram, 0.95)


def percentile(histogram: Sequence[int], share: float) -> int | None:
    """Return the percentile in milliseconds, interpolated within a column of the histogram; None without answers."""
    rank = share * sum(histogram)
    low = passed = 0
    for count, high in zip(histogram, [*DURATIONS, DURATIONS[-1]], strict=True):
        if count and passed + count >= rank:
            return round(low + (high - low) * (rank - passed) / count)
        low, passed = high, passed + count
    return None


@dataclass(frozen=True)
class Visibility:
    """The kinds of totals that a user may see. The others stay zero."""

    usage: bool
    conversations: bool

    def sums(self, first: date, last: date, by: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if self.conversations:
            found += sums_of(
                ConversationDailyTotal, first, last, by, dict.fromkeys(ConversationDailyTotal.measures, Q())
            )
        if self.usage:
            measures = dict.fromkeys(COUNTED, Q()) | dict.fromkeys(UsageDailyTotal.histogram, ANSWERS)
            found += sums_of(UsageDailyTotal, first, last, by, measures)
        return found


def sums_of(
    kind: type[DailyTotal], first: date, last: date, by: Sequence[str], measures: Mapping[str, Q]
) -> "QuerySet[Any, dict[str, Any]]":
    days = kind._default_manager.filter(day__range=(first, last)).order_by()
    sums = {f"sum_of_{name}": Sum(name, filter=which, default=0) for name, which in measures.items()}
    return days.values(*by).annotate(**sums)


def totals_by_day(first: date, last: date, visible: Visibility) -> dict[date, Totals]:
    """Return the totals of each day, also of days without any rows."""
    days = {first + timedelta(days=number): Totals() for number in range((last - first).days + 1)}
    for sums in visible.sums(first, last, ["day"]):
        days[sums["day"]].add(sums)
    return days


def totals_by_dimensions(first: date, last: date, visible: Visibility) -> list[dict[str, Any]]:
    """Return a row of sums for each combination of dimensions over the period, for `grouped`."""
    return visible.sums(first, last, DIMENSIONS)


def grouped(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> dict[tuple[Any, ...], Totals]:
    """Return the totals for each value of the dimensions `by`, the most expensive first."""
    tables: dict[tuple[Any, ...], Totals] = {}
    for row in rows:
        tables.setdefault(tuple(row[name] for name in by), Totals()).add(row)
    return dict(
        sorted(tables.items(), key=lambda item: (-item[1].cost, -item[1].tokens, -item[1].messages, str(item[0])))
    )


def providers_of_the_last_hour() -> list[Mapping[str, Any]]:
    """Return calls and errors by provider, the one with the most errors first."""
    recent = UsageEvent.objects.filter(created_at__gte=timezone.now() - timedelta(hours=1)).order_by()
    # Grouped by an expression, because SQLite reads the whole index of a column to group by it.
    of_each = recent.annotate(slug=Concat("provider", Value(""))).values("slug")
    return list(of_each.annotate(calls=Count("pk"), errors=Count("pk", filter=FAILED)).order_by("-errors", "slug"))
