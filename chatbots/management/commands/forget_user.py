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
        "Erase what is kept of a person: conversations with messages, votes and identity, consents, and what they have "
        "used of their allowances. Several names mean all that any of them finds. An address is also taken out of what "
        "others wrote and of records. Usage records stay, for they hold nothing of visitors. See docs/privacy.md."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", metavar="NAME|ID", help="of an account on this server")
        parser.add_argument("--email", help="of an account, or as a site that embeds a chatbot has told it")
        parser.add_argument("--external-user", default="", metavar="ID", help="as a site calls its user; see --bot")
        parser.add_argument("--session", default="", metavar="ID", help="of a browser, as GET /logs has it")
        parser.add_argument(
            "--bot", action="append", type=int, default=[], metavar="ID",
            help="only with this chatbot, for another site may call another person the same; may be repeated",
        )  # fmt: skip
        parser.add_argument("--account", action="store_true", help="delete the account too")
        parser.add_argument("--dry-run", action="store_true", help="only say what would go")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument(
            "--no-vacuum", action="store_true",
            help="SQLite: do not write the whole file anew, for nobody else can write meanwhile (half a minute for a "
            "gigabyte); until a later run does, what was erased can be read from the file",
        )  # fmt: skip

    def handle(self, *, account: bool, dry_run: bool, yes: bool, no_vacuum: bool, **options: Any) -> None:
        person = person_of(options)
        erasure = Erasure(person, with_accounts=account)
        counts = erasure.report()
        for name, count in counts.items():
            self.stdout.write(f"{name}: {count}")
        if person.accounts and not account:
            names = ", ".join(found.get_username() for found in person.accounts)
            self.stdout.write(f"The account stays: {names}. With --account it goes too.")
        if site := ", ".join(f"{name}: {count}" for name, count in erasure.mentioned.left().items() if count):
            self.stdout.write(f"The address stays in what the site itself wrote, until you change that. {site}.")
        if dry_run:
            return
        if any(counts.values()):
            if not (yes or confirmed()):
                raise CommandError("Nothing was erased.")
            try:
                erasure.erase()
            except ApiError as error:
                raise CommandError(
                    f"{error.message} Titles of documents come first: nothing else was erased."
                ) from None
            self.stdout.write("Erased.")
        # Also where nothing is left: an earlier run may have been stopped before this.
        if connection.vendor == "sqlite" and not no_vacuum and not scrub_deleted_rows():
            raise CommandError("Somebody was reading all the time: copies are left in the file. Run it again.")


def person_of(options: dict[str, Any]) -> Person:
    user, email = options["user"], (options["email"] or "").strip()
    if not (user or email or options["external_user"] or options["session"]):
        raise CommandError("Whom? Say --user, --email, --external-user or --session.")
    if email and "@" not in email:
        raise CommandError(f"{email} is no e-mail address.")
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
        return input("Erase all of this, for good? [yes/no] ").strip().lower() == "yes"
    except EOFError:
        return False
