"""What provider calls cost: usage records, prices, daily totals and the usage report."""

from logs.usage.daily_totals import midnight, today
from logs.usage.prices import PriceBook
from logs.usage.provider_names import PROVIDER_NAMES, provider_name
from logs.usage.recorder import flush_usage, record_usage
from logs.usage.report import Figures, Sight, by_day, by_place, providers_of_the_last_hour, together

__all__ = [
    "PROVIDER_NAMES",
    "Figures",
    "PriceBook",
    "Sight",
    "by_day",
    "by_place",
    "flush_usage",
    "midnight",
    "provider_name",
    "providers_of_the_last_hour",
    "record_usage",
    "today",
    "together",
]
