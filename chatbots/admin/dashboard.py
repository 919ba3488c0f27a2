"""The admin's first page: what happened in a period, and what needs a look now."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from chatbots.guards.budgets import near_budgets
from logs.usage import (
    Totals,
    Visibility,
    grouped,
    providers_of_the_last_hour,
    today,
    totals_by_day,
    totals_by_dimensions,
)
from providers.registry import PROVIDERS
from puffer.text import counted, dollars, duration, whole

PERIODS = {1: "Today", 7: "7 days", 30: "30 days", 90: "90 days"}
DEFAULT_DAYS = 7
MAX_DAYS = 366
EARLIEST, LATEST = date(2000, 1, 1), date(2999, 12, 31)
MAX_ROWS = 10  # of a table
FAILING = 0.1  # share of calls; from here on a provider is marked
GRAY = "#9ca3af"  # readable on white and on black, as unfold's own charts have it
CHART_OPTIONS = {
    "animation": False,
    "responsive": True,
    "maintainAspectRatio": False,
    "interaction": {"mode": "index", "intersect": False},
    "datasets": {"bar": {"borderRadius": 3, "maxBarThickness": 28}, "line": {"borderWidth": 2, "pointRadius": 0}},
    "plugins": {"legend": {"display": False}},
    "scales": {
        "x": {
            "stacked": True,
            "grid": {"display": False},
            "ticks": {"color": GRAY, "maxRotation": 0, "autoSkipPadding": 16},
        },
        "y": {
            "stacked": True,
            "beginAtZero": True,
            "border": {"display": False},
            "ticks": {"color": GRAY, "maxTicksLimit": 5},
        },
    },
}
LINE_OPTIONS = {
    **CHART_OPTIONS,
    "scales": {axis: {**options, "stacked": False} for axis, options in CHART_OPTIONS["scales"].items()},  # type: ignore[attr-defined]
}


class PeriodForm(forms.Form):
    first = forms.DateField(
        widget=forms.DateInput({"type": "date"}, "%Y-%m-%d"), validators=[MinValueValidator(EARLIEST)]
    )
    last = forms.DateField(widget=forms.DateInput({"type": "date"}, "%Y-%m-%d"), validators=[MaxValueValidator(LATEST)])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        first, last = cleaned.get("first"), cleaned.get("last")
        if first and last and not 0 <= (last - first).days < MAX_DAYS:
            raise forms.ValidationError(f"From the first to the last day, at most {MAX_DAYS} days.")
        return cleaned


@dataclass(frozen=True)
class Period:
    """From the first day to the last, both included."""

    first: date
    last: date

    @classmethod
    def until_today(cls, days: int) -> "Period":
        return cls(today() - timedelta(days=days - 1), today())

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def before(self) -> "Period":
        return Period(self.first - timedelta(days=self.days), self.first - timedelta(days=1))


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the page shows, of what the user may see; unfold's DASHBOARD_CALLBACK."""
    may = request.user.has_perm
    sight = Visibility(usage=may("logs.view_usageevent"), conversations=may("logs.view_conversation"))
    form = PeriodForm(request.GET) if "first" in request.GET else PeriodForm()
    period = Period.until_today(days_asked(request))
    if form.is_bound and form.is_valid():
        period = Period(form.cleaned_data["first"], form.cleaned_data["last"])
    elif not form.is_bound:
        form = PeriodForm(initial={"first": period.first, "last": period.last})
    context |= {
        "title": "Dashboard",
        "sight": sight,
        "period": period,
        "form": form,
        "choices": [(days, label, period == Period.until_today(days)) for days, label in PERIODS.items()],
    }
    if sight.usage or sight.conversations:
        context |= figures(period, sight)
    if sight.usage:
        context["failing"] = [with_rate(row) for row in providers_of_the_last_hour()]
    if may("chatbots.view_chatbot"):
        context["budgets"] = near_budgets()
    return context


def days_asked(request: HttpRequest) -> int:
    asked = request.GET.get("days", "")
    return int(asked) if asked in map(str, PERIODS) else DEFAULT_DAYS


def figures(period: Period, sight: Visibility) -> dict[str, Any]:
    days = totals_by_day(period.before.first, period.last, sight)
    now, before = Totals(), Totals()
    for day, figures_of_day in days.items():
        (now if day >= period.first else before).include(figures_of_day)
    shown = {day: figures_of_day for day, figures_of_day in days.items() if day >= period.first}
    is_empty = not (now.messages or now.calls)
    places = totals_by_dimensions(period.first, period.last, sight)
    return {
        "is_empty": is_empty,
        "cards": cards(now, before, sight),
        "charts": charts(shown, sight) if period.days > 1 and not is_empty else [],
        "days": table(
            "day", {(f"{day:%a, %d %b %Y}",): row for day, row in reversed(shown.items())}, sight, limit=None
        ),
        "tables": [
            ("By chatbot", table("chatbot", named(places, ["chatbot_id", "chatbot__name"], bot_cell), sight)),
            ("By provider", table("provider", named(places, ["provider"], provider_cell), sight)),
            ("By model", table("model", named(places, ["model", "provider"], model_cell), sight)),
            ("By API key", table("API key", named(places, ["api_key_id", "api_key__name"], key_cell), sight)),
        ],
    }


# Words for figures


def change(now: float | Decimal | None, before: float | Decimal | None) -> str:
    if not before or now is None:
        return ""
    percent = round(100 * (float(now) / float(before) - 1))
    if percent == 0:
        return "±0 %"
    return f"{percent:+d} %" if percent < 1000 else "over tenfold"


def with_rate(row: Mapping[str, Any]) -> dict[str, Any]:
    rate = row["errors"] / row["calls"]
    return {**row, "label": label_of(row["slug"]), "percent": round(100 * rate), "is_failing": rate >= FAILING}


# Cards and charts


def cards(now: Totals, before: Totals, sight: Visibility) -> list[dict[str, str]]:
    found = []
    if sight.conversations:
        found += [
            card("Conversations", whole(now.conversations), now.conversations, before.conversations),
            card("Messages", whole(now.messages), now.messages, before.messages),
        ]
    if sight.usage:
        note = f"and {counted(now.without_price, 'call')} without a known price" if now.without_price else ""
        found += [
            card("Tokens", whole(now.tokens), now.tokens, before.tokens),
            card("Cost", dollars(now.cost), now.cost, before.cost, note),
            card("Errors", whole(now.errors), now.errors, before.errors, f"of {counted(now.calls, 'call')}"),
            card("Typical answer time", duration(now.p50), now.p50, before.p50),
            card("Slowest 5 %", duration(now.p95), now.p95, before.p95),
        ]
    return found


def card(
    title: str, value: str, now: float | Decimal | None, before: float | Decimal | None, note: str = ""
) -> dict[str, str]:
    return {"title": title, "value": value, "change": change(now, before), "note": note}


def charts(days: Mapping[date, Totals], sight: Visibility) -> list[dict[str, str]]:
    labels = [f"{day:%d %b}" for day in days]
    rows = list(days.values())

    def chart(title: str, *lines: tuple[str, str, Sequence[Any]], kind: str = "bar") -> dict[str, str]:
        datasets = [
            {"label": label, "data": data, "backgroundColor": f"var({color})", "borderColor": f"var({color})"}
            for label, color, data in lines
        ]
        options = LINE_OPTIONS if kind == "line" else CHART_OPTIONS
        return {
            "title": title,
            "component": f"unfold/components/chart/{kind}.html",
            "data": json.dumps({"labels": labels, "datasets": datasets}),
            "options": json.dumps(options),
            "legend": [(label, color) for label, color, _ in lines] if len(lines) > 1 else [],  # type: ignore[dict-item]
        }

    main, second, danger = "--color-primary-600", "--color-primary-300", "--chart-danger"
    found = []
    if sight.conversations:
        found += [
            chart("Conversations", ("conversations", main, [row.conversations for row in rows])),
            chart("Messages", ("messages", main, [row.messages for row in rows])),
        ]
    if sight.usage:
        found += [
            chart(
                "Tokens",
                ("input", main, [row.input_tokens for row in rows]),
                ("output", second, [row.output_tokens for row in rows]),
            ),
            chart("Cost in US$", ("US$", main, [float(row.cost) for row in rows])),
            chart("Errors", ("errors", danger, [row.errors for row in rows])),
            chart(
                "Answer time in seconds",
                ("p50", main, [seconds(row.p50) for row in rows]),
                ("p95", second, [seconds(row.p95) for row in rows]),
                kind="line",
            ),
        ]
    return found


def seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


# Tables


def table(first: str, rows: Mapping[Any, Totals], sight: Visibility, limit: int | None = MAX_ROWS) -> dict[str, Any]:
    headers = [first]
    headers += ["conversations", "messages"] if sight.conversations else []
    headers += ["calls", "tokens", "cost", "errors", "p50", "p95"] if sight.usage else []
    cells = [[key[0], *row_of(row, sight)] for key, row in list(rows.items())[:limit]]
    return {"headers": headers, "rows": cells, "more": max(len(rows) - len(cells), 0)}


def row_of(row: Totals, sight: Visibility) -> list[str]:
    cells = [whole(row.conversations), whole(row.messages)] if sight.conversations else []
    if sight.usage:
        cells += [whole(row.calls), whole(row.tokens), f"${row.cost:,.4f}", whole(row.errors)]
        cells += [duration(row.p50), duration(row.p95)]
    return cells


def named(places: Sequence[Mapping[str, Any]], by: Sequence[str], cell: Any) -> dict[tuple[Any, ...], Totals]:
    return {(cell(*key), key): row for key, row in grouped(places, by).items()}


def bot_cell(pk: int | None, name: str | None) -> str:
    if pk is None:
        return "Other"
    url = reverse("admin:logs_conversation_changelist", query={"chatbot__id__exact": pk})
    return format_html('<a class="text-link" href="{}">{}</a>', url, name)


def label_of(slug: str) -> str:
    return PROVIDERS[slug].label if slug in PROVIDERS else slug or "none"


def provider_cell(slug: str) -> str:
    return label_of(slug)


def model_cell(model: str, slug: str) -> str:
    return f"{model or 'none'} ({label_of(slug)})"


def key_cell(pk: int | None, name: str | None) -> str:
    return "Other" if pk is None else str(name)
