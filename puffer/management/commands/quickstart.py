import io
import itertools
import json
import secrets
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from puffer.models import ApiKey, Scope

ADMIN = "admin"
KEY_NAME = "quickstart"


class Command(BaseCommand):
    help = "Set up everything for a first chatbot: database, admin account, API key, demo chatbot, server."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="the port to serve on (default: 8000)")
        parser.add_argument("--no-serve", action="store_true", help="set everything up, but do not start the server")

    def handle(self, *, port: int, no_serve: bool, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        user, password = self.create_admin()
        key = self.create_key()
        bot_id = self.create_bot()
        site = f"http://127.0.0.1:{port}"
        self.stdout.write(self.style.SUCCESS("\npuffer is ready.\n"))
        self.stdout.write(f"Chat      {site}/chat/{bot_id}/")
        self.stdout.write(
            f"Admin     {site}/admin/   user {user}, password {password or '(as shown at the first start)'}"
        )
        self.stdout.write(f"API       {site}/wp-json/aipkit/v1   described at {site}/api/docs/")
        self.stdout.write(
            f"API key   {key or '(as shown at the first start; `manage.py create_api_key NAME` makes another)'}"
        )
        if key or password:
            self.stdout.write("Store the password and the key now: they cannot be shown again.")
        self.stdout.write(
            f"\nTalk to the demo chatbot:\n\n"
            f"curl {site}/wp-json/aipkit/v1/chat/{bot_id}/message \\\n"
            f"  -H 'Authorization: Bearer {key or 'YOUR_KEY'}' -H 'Content-Type: application/json' \\\n"
            f'  -d \'{{"messages": [{{"role": "user", "content": "What is puffer?"}}]}}\'\n'
        )
        if not no_serve:
            call_command("serve", port=port)

    def create_admin(self) -> tuple[str, str | None]:
        """Return the name of a superuser, and its password if the account is new."""
        users = get_user_model()._default_manager
        if owner := users.filter(is_superuser=True, is_active=True).order_by("pk").first():
            return owner.get_username(), None
        names = (f"{ADMIN}{number}" if number > 1 else ADMIN for number in itertools.count(1))
        name = next(name for name in names if not users.filter(username__iexact=name).exists())
        password = secrets.token_urlsafe(12)
        users.create_superuser(username=name, password=password)
        return name, password

    def create_key(self) -> str | None:
        """Return a new key, or None if an earlier start created it."""
        if ApiKey.objects.filter(name=KEY_NAME).exists():
            return None
        return ApiKey(name=KEY_NAME, scopes=list(Scope.values)).issue()

    def create_bot(self) -> int:
        answer = io.StringIO()
        call_command("create_demo_bot", json=True, stdout=answer)
        return json.loads(answer.getvalue())[0]
