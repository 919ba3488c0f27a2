from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand

from logs.usage.daily_totals import rebuild


class Command(BaseCommand):
    help = (
        "Count the sums of each day, which the dashboard shows, anew: after TIME_ZONE was changed, or rows were "
        "written by other means. What prune_logs has deleted can't be counted again: then name a day "
        "since which all is there."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", type=day, metavar="YYYY-MM-DD", help="leave the days before as they are")

    def handle(self, *, since: date | None, **options: Any) -> None:
        self.stdout.write(self.style.SUCCESS(f"Days recounted: {rebuild(since)}."))


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("a day, such as 2026-01-31") from None
