"""The dashboard: conversations, usage and cost in a period, failing providers, and limits that are nearly reached."""

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
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chatbots.admin.warnings import add_warnings
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
from puffer.text import dollars, duration, whole

PERIODS = [1, 7, 30, 90]  # days
DEFAULT_DAYS = 7
MAX_DAYS = 366
EARLIEST, LATEST = date(2000, 1, 1), date(2999, 12, 31)
MAX_ROWS = 10  # in a table
FAILING = 0.1  # share of failed calls from which a provider is marked as failing
GRAY = "#9ca3af"  # readable on white and on black; unfold's own charts use it too
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
            raise forms.ValidationError(
                _("The last day must not be before the first, and at most %(days)d days can be shown."),
                params={"days": MAX_DAYS},
            )
        return cleaned


@dataclass(frozen=True)
class Period:
    """A range of days, including the first and the last."""

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
        """Return the period of the same length that ends on the day before this one."""
        return Period(self.first - timedelta(days=self.days), self.first - timedelta(days=1))


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the user may see to the context of the admin's first page: unfold's DASHBOARD_CALLBACK."""
    has_perm = request.user.has_perm
    visibility = Visibility(usage=has_perm("logs.view_usageevent"), conversations=has_perm("logs.view_conversation"))
    form = PeriodForm(request.GET) if "first" in request.GET else PeriodForm()
    period = Period.until_today(days_asked(request))
    if form.is_bound and form.is_valid():
        period = Period(form.cleaned_data["first"], form.cleaned_data["last"])
    elif not form.is_bound:
        form = PeriodForm(initial={"first": period.first, "last": period.last})
    context |= {
        "title": _("Dashboard"),
        "visibility": visibility,
        "period": period,
        "form": form,
        "choices": [(days, period_name(days), period == Period.until_today(days)) for days in PERIODS],
    }
    if visibility.usage or visibility.conversations:
        context |= usage_report(period, visibility)
    if visibility.usage:
        context["failing"] = [provider_health(row) for row in providers_of_the_last_hour()]
    if has_perm("chatbots.view_chatbot"):
        context["budgets"] = near_budgets()
    add_warnings(request)
    return context


def days_asked(request: HttpRequest) -> int:
    days = request.GET.get("days", "")
    return int(days) if days in map(str, PERIODS) else DEFAULT_DAYS


def period_name(days: int) -> str:
    return _("Today") if days == 1 else _("%(days)s days") % {"days": days}


def usage_report(period: Period, visibility: Visibility) -> dict[str, Any]:
    days = totals_by_day(period.before.first, period.last, visibility)
    now, before = Totals(), Totals()
    for day, totals in days.items():
        (now if day >= period.first else before).include(totals)
    shown = {day: totals for day, totals in days.items() if day >= period.first}
    is_empty = not (now.messages or now.calls)
    rows = totals_by_dimensions(period.first, period.last, visibility)

    def table_by(name: str, dimensions: Sequence[str], cell: Any) -> dict[str, Any]:
        return table(name, labeled(rows, dimensions, cell), visibility)

    return {
        "is_empty": is_empty,
        "cards": cards(now, before, visibility),
        "charts": charts(shown, visibility) if period.days > 1 and not is_empty else [],
        "days": table(
            _("day"),
            {(date_format(day, "D, d M Y"),): totals for day, totals in reversed(shown.items())},
            visibility,
            limit=None,
        ),
        "tables": [
            (_("By chatbot"), table_by(_("chatbot"), ["chatbot_id", "chatbot__name"], chatbot_cell)),
            (_("By provider"), table_by(_("provider"), ["provider"], label_of)),
            (_("By model"), table_by(_("model"), ["model", "provider"], model_cell)),
            (_("By API key"), table_by(_("API key"), ["api_key_id", "api_key__name"], key_cell)),
        ],
    }


def change(now: float | Decimal | None, before: float | Decimal | None) -> str:
    """Return the change from the period before in percent; "" if there is nothing to compare."""
    if not before or now is None:
        return ""
    percent = round(100 * (float(now) / float(before) - 1))
    if percent == 0:
        return "±0 %"
    return f"{percent:+d} %" if percent < 1000 else _("over tenfold")


def provider_health(row: Mapping[str, Any]) -> dict[str, Any]:
    rate = row["errors"] / row["calls"]
    return {**row, "label": label_of(row["slug"]), "percent": round(100 * rate), "is_failing": rate >= FAILING}


# Cards and charts


def cards(now: Totals, before: Totals, visibility: Visibility) -> list[dict[str, str]]:
    found = []
    if visibility.conversations:
        found += [
            card(_("Conversations"), whole(now.conversations), now.conversations, before.conversations),
            card(_("Messages"), whole(now.messages), now.messages, before.messages),
        ]
    if visibility.usage:
        without_price = ngettext(
            "and %(count)s call without a known price", "and %(count)s calls without a known price", now.without_price
        )
        note = without_price % {"count": whole(now.without_price)} if now.without_price else ""
        of_calls = ngettext("of %(count)s call", "of %(count)s calls", now.calls) % {"count": whole(now.calls)}
        found += [
            card(_("Tokens"), whole(now.tokens), now.tokens, before.tokens),
            card(_("Cost"), dollars(now.cost), now.cost, before.cost, note),
            card(_("Errors"), whole(now.errors), now.errors, before.errors, of_calls),
            card(_("Typical answer time"), duration(now.p50), now.p50, before.p50),
            card(_("Slowest 5 %"), duration(now.p95), now.p95, before.p95),
        ]
    return found


def card(
    title: str, value: str, now: float | Decimal | None, before: float | Decimal | None, note: str = ""
) -> dict[str, str]:
    return {"title": title, "value": value, "change": change(now, before), "note": note}


def charts(days: Mapping[date, Totals], visibility: Visibility) -> list[dict[str, str]]:
    labels = [date_format(day, "d M") for day in days]
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
            "legend": [(label, color) for label, color, _data in lines] if len(lines) > 1 else [],  # type: ignore[dict-item]
        }

    main, second, danger = "--color-primary-600", "--color-primary-300", "--chart-danger"
    found = []
    if visibility.conversations:
        found += [
            chart(_("Conversations"), (_("conversations"), main, [row.conversations for row in rows])),
            chart(_("Messages"), (_("messages"), main, [row.messages for row in rows])),
        ]
    if visibility.usage:
        found += [
            chart(
                _("Tokens"),
                (_("input"), main, [row.input_tokens for row in rows]),
                (_("output"), second, [row.output_tokens for row in rows]),
            ),
            chart(_("Cost in US$"), ("US$", main, [float(row.cost) for row in rows])),
            chart(_("Errors"), (_("errors"), danger, [row.errors for row in rows])),
            chart(
                _("Answer time in seconds"),
                (_("typical"), main, [seconds(row.p50) for row in rows]),
                (_("slowest 5 %"), second, [seconds(row.p95) for row in rows]),
                kind="line",
            ),
        ]
    return found


def seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


# Tables


def table(
    first: str, rows: Mapping[Any, Totals], visibility: Visibility, limit: int | None = MAX_ROWS
) -> dict[str, Any]:
    headers = [first]
    headers += [_("conversations"), _("messages")] if visibility.conversations else []
    if visibility.usage:
        headers += [_("calls"), _("tokens"), _("cost"), _("errors"), _("typical time"), _("slowest 5 %")]
    cells = [[key[0], *cells_of(row, visibility)] for key, row in list(rows.items())[:limit]]
    return {"headers": headers, "rows": cells, "more": max(len(rows) - len(cells), 0)}


def cells_of(row: Totals, visibility: Visibility) -> list[str]:
    cells = [whole(row.conversations), whole(row.messages)] if visibility.conversations else []
    if visibility.usage:
        cells += [whole(row.calls), whole(row.tokens), f"${row.cost:,.4f}", whole(row.errors)]
        cells += [duration(row.p50), duration(row.p95)]
    return cells


def labeled(rows: Sequence[Mapping[str, Any]], dimensions: Sequence[str], cell: Any) -> dict[tuple[Any, ...], Totals]:
    """Return the totals by the first cell of their table row. The key keeps rows apart whose cells are the same."""
    return {(cell(*key), key): totals for key, totals in grouped(rows, dimensions).items()}


def chatbot_cell(pk: int | None, name: str | None) -> str:
    if pk is None:
        return _("Other")
    url = reverse("admin:logs_conversation_changelist", query={"chatbot__id__exact": pk})
    return format_html('<a class="text-link" href="{}">{}</a>', url, name)


def label_of(slug: str) -> str:
    return PROVIDERS[slug].label if slug in PROVIDERS else slug or _("none")


def model_cell(model: str, slug: str) -> str:
    return f"{model or _('none')} ({label_of(slug)})"


def key_cell(pk: int | None, name: str | None) -> str:
    return _("Other") if pk is None else str(name)
