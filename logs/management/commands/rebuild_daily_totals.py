from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand

from logs.usage.daily_totals import rebuild
from puffer.text import counted


class Command(BaseCommand):
    help = (
        "Compute the daily totals of the dashboard again, after a change of TIME_ZONE or after other programs wrote to "
        "the database. After prune_logs, pass --since with the first day on which nothing was deleted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", type=day, metavar="YYYY-MM-DD", help="keep the totals of earlier days")

    def handle(self, *, since: date | None, **options: Any) -> None:
        self.stdout.write(self.style.SUCCESS(f"Rebuilt the totals of {counted(rebuild(since), 'day')}."))


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("must be a day, such as 2026-01-31") from None
