import json
from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from puffer.models import ApiKey, Scope


class Command(BaseCommand):
    help = "Create an API key and print it once, on the last line."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="who uses the key, or what for")
        parser.add_argument(
            "--scope",
            action="append",
            choices=Scope.values,
            default=[],
            help="what the key may do; repeatable (default: everything)",
        )
        parser.add_argument(
            "--bot",
            action="append",
            type=int,
            default=[],
            help="id of a chatbot that the key may use; repeatable (default: all)",
        )
        parser.add_argument(
            "--model",
            action="append",
            default=[],
            metavar="PROVIDER/MODEL",
            help="a model that the key may call, or a provider for all of its models; repeatable (default: all,"
            " or none with --bot)",
        )
        parser.add_argument(
            "--expires", type=date.fromisoformat, help="the last day on which the key works, YYYY-MM-DD"
        )
        parser.add_argument("--json", action="store_true", help="print a JSON object instead")

    @transaction.atomic
    def handle(
        self, *, name: str, scope: list[str], bot: list[int], model: list[str], expires: date | None, **options: Any
    ) -> None:
        key = ApiKey(
            name=name,
            scopes=scope or list(Scope.values),
            expires_on=expires,
            is_bound=bool(bot),
            allowed_models=model,
        )
        try:
            key.full_clean(exclude=["digest"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        secret = key.issue()
        chatbots = key.chatbots.model._default_manager.filter(pk__in=bot)
        if unknown := set(bot) - {chatbot.pk for chatbot in chatbots}:
            raise CommandError(f"There is no chatbot {', '.join(map(str, sorted(unknown)))}.")
        key.chatbots.set(chatbots)
        if options["json"]:
            created = {"id": key.pk, "name": name, "scopes": key.scopes, "bots": bot, "models": model, "key": secret}
            self.stdout.write(json.dumps(created))
            return
        self.stderr.write(f"Created the API key {name!r}. Store it now: it cannot be shown again.")
        self.stdout.write(secret)
