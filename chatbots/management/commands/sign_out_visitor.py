from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatbots.guards.sessions import sign_out
from chatbots.models import Chatbot


class Command(BaseCommand):
    help = "End the widget sessions of a user whose id a site has signed, until the site signs it again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user_id", help="the id, as the site signs it")
        parser.add_argument(
            "--bot", action="append", type=int, default=[], help="id of a chatbot; repeatable (default: all)"
        )

    def handle(self, *, user_id: str, bot: list[int], **options: Any) -> None:
        bots = Chatbot.objects.filter(pk__in=bot) if bot else Chatbot.objects.all()
        if unknown := set(bot) - {chatbot.pk for chatbot in bots}:
            raise CommandError(f"There is no chatbot {', '.join(map(str, sorted(unknown)))}.")
        sign_out(bots, user_id)
        self.stdout.write(f"Signed {user_id!r} out of {len(bots)} chatbots.")
