from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatbots.lifecycle.serializers import export_chatbots
from chatbots.models import Chatbot
from puffer.text import counted


class Command(BaseCommand):
    help = "Print chatbots as JSON that `import_chatbots` reads."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--bot", action="append", type=int, default=[], help="export only this chatbot, by id; repeatable"
        )
        parser.add_argument("--output", type=Path, help="write to this file instead of standard output")

    def handle(self, *, bot: list[int], output: Path | None, **options: Any) -> None:
        chatbots = Chatbot.objects.filter(pk__in=bot) if bot else Chatbot.objects.all()
        if unknown := set(bot) - {chatbot.pk for chatbot in chatbots}:
            raise CommandError(f"There is no chatbot {', '.join(map(str, sorted(unknown)))}.")
        text = export_chatbots(chatbots)
        if output is None:
            self.stdout.write(text)
            return
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from None
        self.stderr.write(f"Exported {counted(len(chatbots), 'chatbot')} to {output}.")
