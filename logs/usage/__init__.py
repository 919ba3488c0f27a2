"""The usage and cost of provider calls: usage events, prices, daily totals and the usage report."""

from logs.usage.daily_totals import midnight, today
from logs.usage.prices import PRICE_LIST_NAMES, PriceBook
from logs.usage.provider_names import PROVIDER_NAMES, provider_name
from logs.usage.recorder import flush_usage, record_usage
from logs.usage.report import (
    Totals,
    Visibility,
    grouped,
    providers_of_the_last_hour,
    totals_by_day,
    totals_by_dimensions,
)

__all__ = [
    "PRICE_LIST_NAMES",
    "PROVIDER_NAMES",
    "PriceBook",
    "Totals",
    "Visibility",
    "flush_usage",
    "grouped",
    "midnight",
    "provider_name",
    "providers_of_the_last_hour",
    "record_usage",
    "today",
    "totals_by_day",
    "totals_by_dimensions",
]
