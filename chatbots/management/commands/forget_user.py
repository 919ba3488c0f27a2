from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from chatbots.lifecycle.erasure import Erasure, Person
from puffer.api import ApiError
from puffer.runtime import scrub_deleted_rows


class Command(BaseCommand):
    help = (
        "Erase a person: their conversations with messages, votes and identity, their consents and token quotas. If "
        "you pass several options, all data that matches any of them is erased. An e-mail address is also replaced in "
        "messages of other people and in records. Usage records are kept: they do not identify visitors. See "
        "docs/privacy.md."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", metavar="NAME|ID", help="an account on this server")
        parser.add_argument(
            "--email", help="the address of an account, or of a user that an embedding site has identified"
        )
        parser.add_argument(
            "--external-user", default="", metavar="ID", help="the id that an embedding site gives its user; see --bot"
        )
        parser.add_argument("--session", default="", metavar="ID", help="the session id of a browser, as in GET /logs")
        parser.add_argument(
            "--bot", action="append", type=int, default=[], metavar="ID",
            help="search this chatbot only, because another site may use the same id for another person; repeatable",
        )  # fmt: skip
        parser.add_argument("--account", action="store_true", help="delete the account too")
        parser.add_argument("--dry-run", action="store_true", help="only report what would be erased")
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        parser.add_argument(
            "--no-vacuum", action="store_true",
            help="SQLite: do not rewrite the database file, which blocks writers for half a minute per gigabyte; until "
            "a later run does, erased data can still be read from the file",
        )  # fmt: skip

    def handle(self, *, account: bool, dry_run: bool, yes: bool, no_vacuum: bool, **options: Any) -> None:
        person = person_of(options)
        erasure = Erasure(person, with_accounts=account)
        counts = erasure.report()
        for name, count in counts.items():
            self.stdout.write(f"{name}: {count}")
        if person.accounts and not account:
            names = ", ".join(found.get_username() for found in person.accounts)
            self.stdout.write(f"Kept account: {names}. Add --account to delete it.")
        if kept := ", ".join(f"{name}: {count}" for name, count in erasure.address.kept().items() if count):
            self.stdout.write(f"The address stays in content of this site. Edit or delete it yourself: {kept}.")
        if dry_run:
            return
        if any(counts.values()):
            if not (yes or confirmed()):
                raise CommandError("Nothing was erased.")
            try:
                erasure.erase()
            except ApiError as error:
                raise CommandError(
                    f"{error.message} Some document titles may be changed, nothing else was erased. Run it again."
                ) from None
            self.stdout.write("Erased.")
        # Even if nothing was found, because an earlier run may have been stopped before this step.
        if connection.vendor == "sqlite" and not no_vacuum and not scrub_deleted_rows():
            raise CommandError(
                "The database file was in use all the time, so copies remain in it. Run this command again."
            )


def person_of(options: dict[str, Any]) -> Person:
    user, email = options["user"], (options["email"] or "").strip()
    if not (user or email or options["external_user"] or options["session"]):
        raise CommandError("Name a person with --user, --email, --external-user or --session.")
    if email and "@" not in email:
        raise CommandError(f"{email} is not a valid e-mail address.")
    return Person(
        accounts=tuple(accounts_of(user, email)),
        email=email,
        external_user_id=options["external_user"],
        session_id=options["session"],
        chatbot_ids=frozenset(options["bot"]) or None,
    )


def accounts_of(user: str | None, email: str) -> list[AbstractUser]:
    users = get_user_model()._default_manager
    found = list(users.filter(email__iexact=email)) if email else []
    if user:
        named = users.filter(username=user).first()
        if named is None and user.isdecimal():
            named = users.filter(pk=int(user)).first()
        if named is None:
            raise CommandError(f"There is no user {user}.")
        found.append(named)
    return list(dict.fromkeys(found))


def confirmed() -> bool:
    try:
        return input("Erase all of this permanently? [yes/no] ").strip().lower() == "yes"
    except EOFError:
        return False
