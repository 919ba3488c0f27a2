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
        parser.add_argument(
            "--replace",
            action="store_true",
            help="if the name exists: revoke that key and issue another, with its permissions unless given here",
        )
        parser.add_argument("--json", action="store_true", help="print a JSON object instead")

    @transaction.atomic
    def handle(
        self,
        *,
        name: str,
        scope: list[str],
        bot: list[int],
        model: list[str],
        expires: date | None,
        replace: bool = False,
        **options: Any,
    ) -> None:
        key = ApiKey.objects.filter(name=name).first() or ApiKey(name=name, scopes=list(Scope.values))
        if key.pk and not replace:
            raise CommandError(f"An API key named {name!r} exists. Choose another name, or replace it with --replace.")
        key.scopes, key.expires_on, key.revoked_at = scope or key.scopes, expires or key.expires_on, None
        key.is_bound = bool(bot) or key.is_bound
        key.allowed_models = model or key.allowed_models
        if not key.is_active:
            raise CommandError(f"The key would not work, because {key.expires_on} has passed. Pass a later --expires.")
        try:
            key.full_clean(exclude=["digest"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        secret = key.issue()
        chatbots = key.chatbots.model._default_manager.filter(pk__in=bot)
        if unknown := set(bot) - {chatbot.pk for chatbot in chatbots}:
            raise CommandError(f"There is no chatbot {', '.join(map(str, sorted(unknown)))}.")
        if bot:
            key.chatbots.set(chatbots)
        bot = list(key.chatbots.values_list("pk", flat=True))
        if options["json"]:
            rights = {"scopes": key.scopes, "bots": bot, "models": key.allowed_models}
            self.stdout.write(json.dumps({"id": key.pk, "name": name, **rights, "key": secret}))
            return
        self.stderr.write(f"Created the API key {name!r}. Store it now: it cannot be shown again.")
        self.stdout.write(secret)
