import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatbots.lifecycle.serializers import MAX_BYTES, ImportRefused, import_chatbots
from puffer.text import counted

MAX_PROBLEMS = 50  # printed


class Command(BaseCommand):
    help = "Import chatbots from a JSON file. If one has an error, none is imported."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the JSON file; - reads standard input")
        parser.add_argument("--dry-run", action="store_true", help="check the file and save nothing")
        parser.add_argument("--json", action="store_true", help="print only a JSON list of the new chatbots' ids")

    def handle(self, *, file: str, dry_run: bool, **options: Any) -> None:
        try:
            done = import_chatbots(self.read(file), dry_run=dry_run)
        except ImportRefused as refused:
            problems = list(refused.problems[:MAX_PROBLEMS])
            if len(refused.problems) > MAX_PROBLEMS:
                problems.append(f"And {len(refused.problems) - MAX_PROBLEMS} more.")
            raise CommandError("\n".join(["Nothing was imported.", *problems])) from None
        for notice in done.notices:
            self.stderr.write(notice, self.style.WARNING)
        if options["json"]:
            self.stdout.write(json.dumps([] if dry_run else [bot.pk for bot in done.bots]))
        elif dry_run:
            self.stdout.write(f"The file is valid. It would add {counted(len(done.bots), 'chatbot')}.")
        else:
            for bot in done.bots:
                self.stdout.write(f"{bot.pk}: {bot.name}")
            self.stdout.write(self.style.SUCCESS(f"Imported {counted(len(done.bots), 'chatbot')}."))

    def read(self, file: str) -> bytes:
        try:
            if file == "-":
                return sys.stdin.buffer.read(MAX_BYTES + 1)
            with open(file, "rb") as opened:
                return opened.read(MAX_BYTES + 1)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
