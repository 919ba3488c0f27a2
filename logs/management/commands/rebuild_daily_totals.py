from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand

from logs.usage.daily_totals import rebuild


class Command(BaseCommand):
    help = (
        "Count the daily totals of the dashboard again, after a change of TIME_ZONE or after rows were written by "
        "other means. After prune_logs, pass the first day of which nothing was deleted as --since."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", type=day, metavar="YYYY-MM-DD", help="keep the totals of earlier days")

    def handle(self, *, since: date | None, **options: Any) -> None:
        self.stdout.write(self.style.SUCCESS(f"Days recounted: {rebuild(since)}."))


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("must be a day, such as 2026-01-31") from None
