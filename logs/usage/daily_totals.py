"""Daily totals, so that the usage report of months reads hundreds of rows instead of millions.

usage events, or turns -> sums -> one upsert for each, in the transaction that writes the rows themselves
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from operator import itemgetter
from typing import Any, TypeVar

from django.db import connection, transaction
from django.db.models import Count, Manager, Min, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce, TruncDate
from django.utils import timezone

from logs.models import (
    DURATIONS,
    Conversation,
    ConversationDailyTotal,
    DailyTotal,
    Message,
    UsageDailyTotal,
    UsageEvent,
)

CALLER_DISCONNECTED = 499
SUCCEEDED = Q(status__lt=400)
FAILED = Q(status__gte=400) & ~Q(status=CALLER_DISCONNECTED)

AnyTotal = TypeVar("AnyTotal", bound=DailyTotal)
Sums = Mapping[tuple[Any, ...], Mapping[str, int | Decimal]]  # measures by dimensions


def today() -> date:
    return day_of(timezone.now())


def day_of(moment: datetime) -> date:
    return timezone.localdate(moment, timezone.get_default_timezone())


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.get_default_timezone())


def in_days(first: date, last: date) -> dict[str, datetime]:
    return {"created_at__gte": midnight(first), "created_at__lt": midnight(last + timedelta(days=1))}


# Add to the totals, while rows are written


def add_events(events: Iterable[UsageEvent]) -> None:
    """Add usage events to their day. Call it in the transaction that writes them."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(lambda: dict.fromkeys(UsageDailyTotal.measures, 0))
    for event in events:
        dimensions = (event.chatbot_id, event.api_key_id, event.provider, event.model, event.operation)
        measures = sums[(day_of(event.created_at), *dimensions)]
        measures["calls"] += 1
        measures["errors"] += event.status >= 400 and event.status != CALLER_DISCONNECTED
        measures["input_tokens"] += event.input_tokens or 0
        measures["output_tokens"] += event.output_tokens or 0
        measures["images"] += event.images
        measures["cost"] += event.cost or 0
        if event.status < 400:
            measures["without_price"] += event.cost is None
            measures[column_of(event.milliseconds)] += 1
    add(UsageDailyTotal, sums)


def column_of(milliseconds: int) -> str:
    """Return the column of the histogram that counts a call of this duration."""
    return next((f"up_to_{limit}" for limit in DURATIONS if milliseconds <= limit), "longer")


def add(kind: type[DailyTotal], sums: Sums) -> None:
    """Add sums to the totals, in the same order in every process, so that no two writers deadlock."""
    adapt_day, adapt_cost = connection.ops.adapt_datefield_value, connection.ops.adapt_decimalfield_value
    rows = []
    for (day, *others), measures in sums.items():
        numbers = [adapt_cost(Decimal(n)) if name == "cost" else n for name, n in measures.items()]
        rows.append((identity_of([day, *others]), adapt_day(day), *others, *numbers))
    with connection.cursor() as cursor:
        for row in sorted(rows, key=itemgetter(0)):
            cursor.execute(upsert(kind), row)


def identity_of(dimensions: Sequence[Any]) -> str:
    return "|".join("" if value is None else str(value) for value in dimensions)


@cache
def upsert(kind: type[DailyTotal]) -> str:
    table = kind._meta.db_table
    columns = ["identity", *kind.dimensions, *kind.measures]
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in kind.measures)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))}) "  # noqa: S608
        f"ON CONFLICT (identity) DO UPDATE SET {sums}"
    )


# Rebuild the totals from the existing rows


def rebuild(since: date | None = None) -> int:
    """Count every day again, or the days since `since`. Return their number. Turns may be written meanwhile."""
    yesterday, tomorrow = today() - timedelta(days=1), today() + timedelta(days=1)  # for clocks that are ahead
    first = since or min(filter(None, map(first_day, [Message.objects, UsageEvent.objects])), default=today())
    # Days before yesterday no longer change, so they are counted before the lock that makes writers wait.
    older = turn_totals(first, yesterday - timedelta(days=1))
    replace(ConversationDailyTotal, first, yesterday - timedelta(days=1), lambda: older)
    replace(
        ConversationDailyTotal, max(first, yesterday), tomorrow, lambda: turn_totals(max(first, yesterday), tomorrow)
    )
    days = [first + timedelta(days=number) for number in range((tomorrow - first).days + 1)]
    for day in days:
        replace(UsageDailyTotal, day, day, partial(usage_totals, day))
    return len(days) - 1


def first_day(rows: Manager) -> date | None:
    first = rows.aggregate(first=Min("created_at"))["first"]
    return first and day_of(first)


def replace(kind: type[DailyTotal], first: date, last: date, count: Callable[[], list[AnyTotal]]) -> None:
    with transaction.atomic():
        if connection.vendor == "postgresql":  # SQLite has one writer at a time
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {kind._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
        kind._default_manager.filter(day__range=(first, last)).delete()
        kind._default_manager.bulk_create(count(), batch_size=500)


def turn_totals(first: date, last: date) -> list[ConversationDailyTotal]:
    sums: dict[tuple[Any, ...], ConversationDailyTotal] = {}

    def add_up(measure: str, rows: QuerySet, chatbot: str, api_key: str, provider: str, model: str) -> None:
        day = TruncDate("created_at", tzinfo=timezone.get_default_timezone())
        counted = rows.filter(**in_days(first, last)).order_by().annotate(on=day)
        for *dimensions, count in counted.values_list("on", chatbot, api_key, provider, model).annotate(Count("pk")):
            setattr(sums.setdefault(tuple(dimensions), of(ConversationDailyTotal, dimensions)), measure, count)

    answers = Message.objects.filter(role=Message.Role.BOT)
    # A conversation's `updated_at` is that of its newest message. Its index makes reading all messages unnecessary.
    recent = answers.filter(conversation__updated_at__gte=midnight(first))
    add_up("messages", recent, "conversation__chatbot_id", "conversation__api_key_id", "provider", "model")
    first_answer = answers.filter(conversation=OuterRef("pk")).order_by("id")
    begun = Conversation.objects.annotate(
        first_provider=Coalesce(Subquery(first_answer.values("provider")[:1]), Value("")),
        first_model=Coalesce(Subquery(first_answer.values("model")[:1]), Value("")),
    )
    add_up("conversations", begun, "chatbot_id", "api_key_id", "first_provider", "first_model")
    for row in sums.values():
        row.messages *= 2  # a question for each answer
    return list(sums.values())


def usage_totals(day: date) -> list[UsageDailyTotal]:
    steps = zip([-1, *DURATIONS], [*DURATIONS, math.inf], strict=True)
    within = [Q(milliseconds__gt=low) & (Q(milliseconds__lte=high) if high < math.inf else Q()) for low, high in steps]
    measures = [
        Count("pk"),
        Count("pk", filter=FAILED),
        *(Sum(name, default=0) for name in ("input_tokens", "output_tokens", "images", "cost")),
        Count("pk", filter=SUCCEEDED & Q(cost=None)),
        *(Count("pk", filter=SUCCEEDED & step) for step in within),
    ]
    rows = UsageEvent.objects.filter(**in_days(day, day)).order_by().values_list(*UsageDailyTotal.dimensions[1:])
    found = rows.annotate(**dict(zip([f"sum_of_{name}" for name in UsageDailyTotal.measures], measures, strict=True)))
    count = len(UsageDailyTotal.dimensions) - 1
    return [
        of(UsageDailyTotal, [day, *row[:count]], **dict(zip(UsageDailyTotal.measures, row[count:], strict=True)))
        for row in found
    ]


def of(kind: type[AnyTotal], dimensions: Sequence[Any], **measures: Any) -> AnyTotal:
    return kind(identity=identity_of(dimensions), **dict(zip(kind.dimensions, dimensions, strict=True)), **measures)
