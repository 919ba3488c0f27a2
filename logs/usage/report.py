"""What the dashboard shows: how much was said and what it took, by day and by chatbot, provider, model and API key."""

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
ANSWERS = Q(operation=UsageEvent.Operation.COMPLETION)  # others are not waited for as an answer is
PLACE = ["chatbot_id", "chatbot__name", "api_key_id", "api_key__name", "provider", "model"]


@dataclass
class Totals:
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
        """Of a row of the queries below."""
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
    """Milliseconds; within a step of the histogram as if they were spread evenly. None where there is no answer."""
    rank = share * sum(histogram)
    low = passed = 0
    for count, high in zip(histogram, [*DURATIONS, DURATIONS[-1]], strict=True):
        if count and passed + count >= rank:
            return round(low + (high - low) * (rank - passed) / count)
        low, passed = high, passed + count
    return None


@dataclass(frozen=True)
class Visibility:
    """Who looks at the dashboard sees what their permissions allow; the rest stays zero."""

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


def totals_by_day(first: date, last: date, sight: Visibility) -> dict[date, Totals]:
    """One for each day, also for those on which nothing happened."""
    days = {first + timedelta(days=number): Totals() for number in range((last - first).days + 1)}
    for sums in sight.sums(first, last, ["day"]):
        days[sums["day"]].add(sums)
    return days


def totals_by_dimensions(first: date, last: date, sight: Visibility) -> list[dict[str, Any]]:
    """Sums of the whole period, one for each combination; `grouped` makes a table of them."""
    return sight.sums(first, last, PLACE)


def grouped(places: Sequence[Mapping[str, Any]], by: Sequence[str]) -> dict[tuple[Any, ...], Totals]:
    """The dearest first."""
    tables: dict[tuple[Any, ...], Totals] = {}
    for place in places:
        tables.setdefault(tuple(place[name] for name in by), Totals()).add(place)
    return dict(sorted(tables.items(), key=lambda row: (-row[1].cost, -row[1].tokens, -row[1].messages, str(row[0]))))


def providers_of_the_last_hour() -> list[Mapping[str, Any]]:
    """Calls and errors of each, that with the most errors first."""
    recent = UsageEvent.objects.filter(created_at__gte=timezone.now() - timedelta(hours=1)).order_by()
    # Grouped by an expression, for SQLite walks through all of a column's index to group by the column.
    of_each = recent.annotate(slug=Concat("provider", Value(""))).values("slug")
    return list(of_each.annotate(calls=Count("pk"), errors=Count("pk", filter=FAILED)).order_by("-errors", "slug"))
