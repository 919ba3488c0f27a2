"""Sums for each day, so that what months came to is read from hundreds of rows instead of millions.

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

CALLER_LEFT = 499
SUCCEEDED = Q(status__lt=400)
FAILED = Q(status__gte=400) & ~Q(status=CALLER_LEFT)

AnyDay = TypeVar("AnyDay", bound=DailyTotal)
Sums = Mapping[tuple[Any, ...], Mapping[str, int | Decimal]]  # measures by dimensions


def today() -> date:
    return day_of(timezone.now())


def day_of(moment: datetime) -> date:
    return timezone.localdate(moment, timezone.get_default_timezone())


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.get_default_timezone())


def in_days(first: date, last: date) -> dict[str, datetime]:
    return {"created_at__gte": midnight(first), "created_at__lt": midnight(last + timedelta(days=1))}


# As rows are written


def add_events(events: Iterable[UsageEvent]) -> None:
    """To be called in the transaction that writes them."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(lambda: dict.fromkeys(UsageDailyTotal.measures, 0))
    for event in events:
        place = (event.chatbot_id, event.api_key_id, event.provider, event.model, event.operation)
        measures = sums[(day_of(event.created_at), *place)]
        measures["calls"] += 1
        measures["errors"] += event.status >= 400 and event.status != CALLER_LEFT
        measures["input_tokens"] += event.input_tokens or 0
        measures["output_tokens"] += event.output_tokens or 0
        measures["images"] += event.images
        measures["cost"] += event.cost or 0
        if event.status < 400:
            measures["without_price"] += event.cost is None
            measures[column_of(event.milliseconds)] += 1
    add(UsageDailyTotal, sums)


def column_of(milliseconds: int) -> str:
    """Of the histogram."""
    return next((f"up_to_{limit}" for limit in DURATIONS if milliseconds <= limit), "longer")


def add(kind: type[DailyTotal], sums: Sums) -> None:
    """In one order for all, so that no two writers wait for each other."""
    adapt_day, adapt_cost = connection.ops.adapt_datefield_value, connection.ops.adapt_decimalfield_value
    rows = []
    for (day, *place), measures in sums.items():
        numbers = [adapt_cost(Decimal(n)) if name == "cost" else n for name, n in measures.items()]
        rows.append((identity_of([day, *place]), adapt_day(day), *place, *numbers))
    with connection.cursor() as cursor:
        for row in sorted(rows, key=itemgetter(0)):
            cursor.execute(upsert(kind), row)


def identity_of(place: Sequence[Any]) -> str:
    return "|".join("" if part is None else str(part) for part in place)


@cache
def upsert(kind: type[DailyTotal]) -> str:
    table = kind._meta.db_table
    columns = ["identity", *kind.dimensions, *kind.measures]
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in kind.measures)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))}) "  # noqa: S608
        f"ON CONFLICT (identity) DO UPDATE SET {sums}"
    )


# Anew, from the rows that are there


def rebuild(since: date | None = None) -> int:
    """Count every day anew, or those since a day, while others go on writing. Gives the number of days."""
    yesterday, tomorrow = today() - timedelta(days=1), today() + timedelta(days=1)  # some clocks are ahead of ours
    first = since or min(filter(None, map(first_day, [Message.objects, UsageEvent.objects])), default=today())
    # Nobody adds to what is older than yesterday: it is counted before anybody has to wait.
    older = turn_days(first, yesterday - timedelta(days=1))
    replace(ConversationDailyTotal, first, yesterday - timedelta(days=1), lambda: older)
    replace(ConversationDailyTotal, max(first, yesterday), tomorrow, lambda: turn_days(max(first, yesterday), tomorrow))
    days = [first + timedelta(days=number) for number in range((tomorrow - first).days + 1)]
    for day in days:
        replace(UsageDailyTotal, day, day, partial(usage_days, day))
    return len(days) - 1


def first_day(rows: Manager) -> date | None:
    first = rows.aggregate(first=Min("created_at"))["first"]
    return first and day_of(first)


def replace(kind: type[DailyTotal], first: date, last: date, count: Callable[[], list[AnyDay]]) -> None:
    with transaction.atomic():
        if connection.vendor == "postgresql":  # SQLite has one writer at a time anyway
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {kind._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
        days = kind._default_manager
        days.filter(day__range=(first, last)).delete()
        days.bulk_create(count(), batch_size=500)


def turn_days(first: date, last: date) -> list[ConversationDailyTotal]:
    sums: dict[tuple[Any, ...], ConversationDailyTotal] = {}

    def add_up(measure: str, rows: QuerySet, chatbot: str, api_key: str, provider: str, model: str) -> None:
        day = TruncDate("created_at", tzinfo=timezone.get_default_timezone())
        counted = rows.filter(**in_days(first, last)).order_by().annotate(on=day)
        for *place, count in counted.values_list("on", chatbot, api_key, provider, model).annotate(Count("pk")):
            setattr(sums.setdefault(tuple(place), of(ConversationDailyTotal, place)), measure, count)

    answers = Message.objects.filter(role=Message.Role.BOT)
    # A conversation is as new as its newest message: the index on that spares a look at all messages.
    recent = answers.filter(conversation__updated_at__gte=midnight(first))
    add_up("messages", recent, "conversation__chatbot_id", "conversation__api_key_id", "provider", "model")
    first_answer = answers.filter(conversation=OuterRef("pk")).order_by("id")
    begun = Conversation.objects.annotate(
        first_provider=Coalesce(Subquery(first_answer.values("provider")[:1]), Value("")),
        first_model=Coalesce(Subquery(first_answer.values("model")[:1]), Value("")),
    )
    add_up("conversations", begun, "chatbot_id", "api_key_id", "first_provider", "first_model")
    for row in sums.values():
        row.messages *= 2  # each answer has its question
    return list(sums.values())


def usage_days(day: date) -> list[UsageDailyTotal]:
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
    places = len(UsageDailyTotal.dimensions) - 1
    return [
        of(UsageDailyTotal, [day, *row[:places]], **dict(zip(UsageDailyTotal.measures, row[places:], strict=True)))
        for row in found
    ]


def of(kind: type[AnyDay], place: Sequence[Any], **measures: Any) -> AnyDay:
    return kind(identity=identity_of(place), **dict(zip(kind.dimensions, place, strict=True)), **measures)
