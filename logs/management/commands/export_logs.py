import sys
from argparse import ArgumentParser, ArgumentTypeError
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from logs.conversations.export import FORMATS, export
from logs.models import Conversation
from puffer.runtime import open_atomic
from puffer.text import counted


class Command(BaseCommand):
    help = (
        "Export conversations as CSV with one line per message, or as JSON lines with one line per conversation. In "
        "CSV, texts that a spreadsheet would run as a formula get a leading apostrophe. JSON contains the exact texts."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--bot",
            action="append",
            type=int,
            default=[],
            metavar="ID",
            help="only conversations with this chatbot; repeatable",
        )
        parser.add_argument(
            "--since", type=day, metavar="YYYY-MM-DD", help="only conversations with a message on that day or later"
        )
        parser.add_argument("--format", choices=list(FORMATS), default="csv", help="default: csv")
        parser.add_argument("--output", type=Path, metavar="FILE", help="write to this file instead of standard output")

    def handle(self, *, bot: list[int], since: date | None, format: str, output: Path | None, **options: Any) -> None:
        conversations = Conversation.objects.of_bots(frozenset(bot) if bot else None)
        if since:
            conversations = conversations.filter(updated_at__gte=timezone.make_aware(datetime.combine(since, time())))
        total = conversations.count()
        try:
            with (
                open_atomic(output) as file,
                tqdm(
                    total=total, unit=" conversations", disable=None, file=sys.stderr
                ) as bar,  # None: only on a terminal
            ):
                for piece in export(conversations, format, bar.update):
                    file.write(piece)
        except OSError as error:
            raise CommandError(f"{output or 'The output'} cannot be written: {error.strerror}.") from None
        self.stderr.write(f"Exported {counted(total, 'conversation')}.")


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("must be a day, such as 2026-01-31") from None
