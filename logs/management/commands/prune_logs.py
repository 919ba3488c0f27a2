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


class Command(BaseCommand):
    help = (
        "Delete conversations, with their messages and votes, whose last message is older than so many days. What was "
        "spent remains known: usage records, which hold nothing of visitors, are deleted with --usage only."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=days, metavar="N", help="default: LOG_RETENTION_DAYS")
        parser.add_argument("--usage", action="store_true", help="delete usage records of that age too")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    def handle(self, *, days: int | None, usage: bool, dry_run: bool, **options: Any) -> None:
        days = days or settings.LOG_RETENTION_DAYS
        if days < 1:
            raise CommandError("After how many days? Say --days N, or set LOG_RETENTION_DAYS.")
        conversations, events = outdated_conversations(days), outdated_usage(days)
        count = conversations.count()
        if dry_run:
            messages = conversations.aggregate(messages=Sum("message_count", default=0))["messages"]
            self.stdout.write(f"Conversations that would be deleted: {count}, with {messages} messages.")
            if usage:
                self.stdout.write(f"Usage records that would be deleted: {events.count()}.")
            return
        with progress(count, " conversations") as tell:
            self.stdout.write(f"Conversations deleted: {prune(days, tell)}.")
        if usage:
            with progress(events.count(), " usage records") as tell:
                self.stdout.write(f"Usage records deleted: {prune_usage(days, tell)}.")


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    with tqdm(total=total, unit=unit, disable=None, file=sys.stderr) as bar:  # None: only on a terminal
        yield bar.update


def days(text: str) -> int:
    if not text.isdecimal() or not 1 <= (number := int(text[:9])) <= 36_500:
        raise ArgumentTypeError("a number of days, at least 1 and at most 36500")
    return number
