import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Sum
from tqdm import tqdm

from logs.conversations.retention import outdated_conversations, outdated_usage, prune, prune_usage
from puffer.text import counted


class Command(BaseCommand):
    help = (
        "Delete conversations whose last message is older than --days, with their messages and ratings. Usage records "
        "do not identify visitors; add --usage to delete them too."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=days, metavar="N", help="the age in days (default: LOG_RETENTION_DAYS)")
        parser.add_argument("--usage", action="store_true", help="also delete usage records of that age")
        parser.add_argument("--dry-run", action="store_true", help="only show what would be deleted")

    def handle(self, *, days: int | None, usage: bool, dry_run: bool, **options: Any) -> None:
        days = days or settings.LOG_RETENTION_DAYS
        if days < 1:
            raise CommandError("Pass --days N, or set LOG_RETENTION_DAYS.")
        conversations, events = outdated_conversations(days), outdated_usage(days)
        count = conversations.count()
        if dry_run:
            messages = conversations.aggregate(messages=Sum("message_count", default=0))["messages"]
            self.stdout.write(f"Would delete {counted(count, 'conversation')} with {counted(messages, 'message')}.")
            if usage:
                self.stdout.write(f"Would delete {counted(events.count(), 'usage record')}.")
            return
        with progress(count, " conversations") as on_progress:
            self.stdout.write(f"Deleted {counted(prune(days, on_progress), 'conversation')}.")
        if usage:
            with progress(events.count(), " usage records") as on_progress:
                self.stdout.write(f"Deleted {counted(prune_usage(days, on_progress), 'usage record')}.")


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    with tqdm(total=total, unit=unit, disable=None, file=sys.stderr) as bar:  # None: only on a terminal
        yield bar.update


def days(text: str) -> int:
    if not text.isdecimal() or not 1 <= (number := int(text[:9])) <= 36_500:
        raise ArgumentTypeError("must be a number of days from 1 to 36500")
    return number
