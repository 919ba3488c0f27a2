"""Erasing a person's data: all of it, nothing of other people, and no copies in the database's files."""

import io
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from axes.models import AccessFailureLog
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from chatbots.conversation.visitor import Identity, Visitor
from chatbots.guards.limits import reserve
from chatbots.models import Chatbot, Consent, MessageCount, TokenAllowance
from logs.conversations.writer import write_turns
from logs.models import Conversation, Message
from logs.search.query import with_message
from tests.support.installation import migrated_file
from tests.support.repository import ROOT

EMAIL = "ada@lovelace.example"
WIDGET = Conversation.Source.WIDGET


def visitor(session_id, identity=None, ip_address="192.0.2.1"):
    return Visitor(source=WIDGET, session_id=session_id, identity=identity, ip_address=ip_address)


def ada(session_id="ada-1", name="Ada", email=EMAIL):
    return visitor(session_id, Identity("7", name, email))


@async_to_sync
async def count_message(bot, person):
    async with reserve(bot, person, "Shoes?"):
        pass


def chat(bot, person, uuid, question="Shoes?", reply="Yes"):
    """Store a conversation, and for widget visitors also message counts, token allowances and consent."""
    write_turns([person.turn(bot.pk, uuid, question, reply=reply)])
    if person.source == WIDGET:
        count_message(bot, person)
        Consent.objects.get_or_create(chatbot=bot, visitor=person.key, text_digest="x")


@pytest.fixture
def other(db):
    return Chatbot.objects.create(name="Other", token_guest_limit=10**6, token_user_limit=10**6)


@pytest.fixture
def log(bot, other):
    bot.token_guest_limit = bot.token_user_limit = 10**6
    bot.save()
    chat(bot, ada(), "ada", f"I am {EMAIL}.")
    chat(bot, ada("ada-2", email=""), "ada-without-email")
    chat(bot, visitor("ada-1"), "ada-as-guest")
    chat(other, ada("ada-3", email=""), "other-7")  # another site's user 7 is another person
    chat(
        bot,
        visitor("eva-1", Identity("8", "Eva", f"b{EMAIL}"), "192.0.2.8"),
        "eva",
        f"My friend is {EMAIL.upper()}!",
        f"Hi {EMAIL}",
    )
    chat(bot, visitor("guest-1", ip_address="192.0.2.9"), "guest", f"x{EMAIL}, {EMAIL}.uk and {EMAIL}")
    Message.objects.filter(conversation__conversation_uuid="ada", role="bot").update(feedback="up")


def run_forget_user(*arguments, yes=True):
    out = io.StringIO()
    call_command("forget_user", *arguments, *(["--yes"] if yes else []), "--no-vacuum", stdout=out)
    return out.getvalue()


def uuids():
    return set(Conversation.objects.values_list("conversation_uuid", flat=True))


EVERYTHING = {"ada", "ada-without-email", "ada-as-guest", "other-7", "eva", "guest"}
OTHERS = {"other-7", "eva", "guest"}


@pytest.mark.parametrize(
    ("arguments", "remaining"),
    [
        (["--email", EMAIL], OTHERS),
        (["--email", EMAIL.upper()], OTHERS),
        (["--external-user", "7"], {"eva", "guest"}),
        (["--external-user", "7", "--bot", "SHOP"], OTHERS),
        (["--session", "ada-1"], EVERYTHING - {"ada", "ada-as-guest"}),
        (["--session", "guest-1"], EVERYTHING - {"guest"}),
        (["--session", "guest-1", "--email", EMAIL], OTHERS - {"guest"}),
        (["--session", "ada"], EVERYTHING),  # whole ids only
        (["--email", "lovelace@x.example"], EVERYTHING),
        (["--external-user", "%"], EVERYTHING),
    ],
)
def test_conversations_of_the_person_are_deleted(log, bot, arguments, remaining):
    run_forget_user(*[str(bot.pk) if argument == "SHOP" else argument for argument in arguments])
    assert uuids() == remaining
    assert Message.objects.count() == 2 * len(remaining)


def test_other_data_of_the_person_is_deleted(log, bot, other):
    mine = {ada().key, visitor("ada-1").key, visitor("ada-2").key}
    for model, key in ((Consent, "visitor"), (TokenAllowance, "visitor"), (MessageCount, "subject")):
        assert set(model.objects.filter(chatbot=bot).values_list(key, flat=True)) > {ada().key, visitor("ada-1").key}
    output = run_forget_user("--email", EMAIL)
    assert output.splitlines() == [
        "conversations: 3",
        "messages: 6",
        "votes: 1",
        "questions in evaluations: 0",
        "consents: 2",
        "token allowances: 3",  # and that of the network of the guest
        "webhook deliveries: 0",
        "message counts: 4",  # of the user, of the guest, and of their address at both chatbots
        "mentions of the address by others: 3",
        "mentions in golden results: 0",
        "mentions in golden runs: 0",
        "mentions in versions of chatbots: 0",
        "mentions in recorded changes: 0",
        "mentions in questions with an answer: 0",
        "sign-ins and attempts: 0",
        "accounts: 0",
        "Erased.",
    ]
    others = {visitor("eva-1", Identity("8")).key, visitor("guest-1").key}
    for model, key in ((Consent, "visitor"), (TokenAllowance, "visitor")):
        of_visitors = model.objects.filter(chatbot=bot).exclude(**{f"{key}__startswith": "network:"})
        assert set(of_visitors.values_list(key, flat=True)) == others
        assert set(model.objects.filter(chatbot=other).values_list(key, flat=True)) == {ada().key}
    counted = set(MessageCount.objects.filter(chatbot=bot).values_list("subject", flat=True))
    assert others < counted
    assert not counted & mine
    assert "address:192.0.2.1" not in counted
    assert "address:192.0.2.8" in counted
    assert set(run_forget_user("--email", EMAIL).splitlines()[:-1]) == {
        f"{line.partition(':')[0]}: 0" for line in output.splitlines()[:-1]
    } - {"accounts: 0"}  # fmt: skip


def test_mentions_of_the_address_by_others_are_redacted(log):
    run_forget_user("--email", EMAIL)
    assert Message.objects.get(conversation__conversation_uuid="eva", role="user").content == "My friend is [e-mail]!"
    assert Message.objects.get(conversation__conversation_uuid="eva", role="bot").content == "Hi [e-mail]"
    guests = Message.objects.get(conversation__conversation_uuid="guest", role="user")
    assert guests.content == f"x{EMAIL}, {EMAIL}.uk and [e-mail]"  # the other two addresses belong to other people
    assert guests.redactions == {"email": 1}
    eva = Conversation.objects.get(conversation_uuid="eva")
    assert (eva.external_email, eva.last_message) == (f"b{EMAIL}", "Hi [e-mail]")
    assert set(with_message("lovelace")) == {guests.conversation_id}


def test_data_of_limits_is_deleted_without_any_conversation(log, bot):
    Conversation.objects.all().delete()
    run_forget_user("--external-user", "7", "--bot", str(bot.pk), "--session", "guest-1")
    remaining = set(Consent.objects.values_list("visitor", "chatbot__name"))
    assert remaining == {
        (visitor("eva-1", Identity("8")).key, "Shop"),
        (visitor("ada-1").key, "Shop"),
        (ada().key, "Other"),
    }


def test_a_dry_run_only_counts(log):
    assert run_forget_user("--email", EMAIL, "--dry-run").startswith("conversations: 3\nmessages: 6\n")
    assert uuids() == EVERYTHING
    assert Consent.objects.count() == 5
    assert Message.objects.filter(content__icontains=EMAIL).count() == 4


@pytest.mark.parametrize(("answer", "is_erased"), [("yes\n", True), ("no\n", False), ("y\n", False), ("", False)])
def test_erasing_asks_for_confirmation(log, stdin, answer, is_erased):
    stdin(answer)
    if is_erased:
        assert "Erased." in run_forget_user("--email", EMAIL, yes=False)
    else:
        with pytest.raises(CommandError, match="Nothing was erased"):
            run_forget_user("--email", EMAIL, yes=False)
    assert (uuids() == OTHERS) is is_erased


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name a person"),
        (["--email", " "], "Name a person"),
        (["--bot", "1"], "Name a person"),
        (["--email", "ada"], "not a valid e-mail address"),
        (["--user", "nobody"], "There is no user nobody"),
        (["--user", "999999999999999999999999999"], "There is no user"),
    ],
)
def test_missing_or_invalid_names_erase_nothing(log, arguments, message):
    with pytest.raises(CommandError, match=message):
        run_forget_user(*arguments)
    assert uuids() == EVERYTHING


# Accounts of admin users, who test chatbots in the playground


@pytest.fixture
def account(log, bot):
    account = get_user_model().objects.create_user("countess", EMAIL, is_staff=True)
    chat(bot, Visitor(user_id=account.pk, source=Conversation.Source.PREVIEW), "tried")
    return account


@pytest.mark.parametrize("named_by", ["name", "id", "email"])
def test_an_account_is_kept_by_default(account, named_by):
    name = {"name": ["--user", "countess"], "id": ["--user", str(account.pk)], "email": ["--email", EMAIL]}[named_by]
    assert "Kept account: countess." in run_forget_user(*name)
    assert uuids() == (OTHERS if named_by == "email" else EVERYTHING)
    account.refresh_from_db()


def test_an_account_is_deleted_with_its_log_entries(account, admin_user):
    LogEntry.objects.log_actions(admin_user.pk, [account], 2, "changed")
    AccessFailureLog.objects.create(username=EMAIL)
    AccessFailureLog.objects.create(username="somebody")
    assert "accounts: 1\nErased." in run_forget_user("--email", EMAIL, "--account")
    assert list(get_user_model().objects.all()) == [admin_user]
    assert not LogEntry.objects.exists()
    assert AccessFailureLog.objects.get().username == "somebody"


# Files


RARE = "zq7xk.jwvq@qxz9.example"  # no other text contains its trigrams
SEED = """
import django
django.setup()
from django.db import connection
from chatbots.models import Chatbot
from chatbots.conversation.visitor import Identity, Visitor
from logs.conversations.writer import write_turns
from logs.models import Conversation
connection.cursor().execute("PRAGMA secure_delete = OFF")  # Debian's SQLite turns it on, others do not
bot = Chatbot.objects.create(name="Shop")
for turn in range(30):  # each turn rewrites the conversation's row
    for person in range(40):
        identity = Identity(str(person), "Somebody", f"somebody{person}@example.com" if person else "EMAIL")
        visitor = Visitor(source=Conversation.Source.WIDGET, session_id=f"s{person}", identity=identity)
        question = "Do you sell shoes? " * (turn * person % 40)
        if person == 0 or turn == person == 5:
            question += "I am EMAIL."
        write_turns([visitor.turn(bot.pk, f"c{person}", question, reply="Yes")])
for number in range(20):
    visitor = Visitor(source=Conversation.Source.API)
    write_turns([visitor.turn(bot.pk, f"d{number}", "EMAIL " * 20, reply="Yes")])
Conversation.objects.filter(conversation_uuid__startswith="d").delete()

# Further places: a document named after her question, a version, a golden run, the audit log, a sign-in, a webhook
import numpy as np
from axes.models import AccessFailureLog
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from chatbots.models import GoldenResult, GoldenRun
from logs.models import Webhook, WebhookDelivery
from vectorstores.base import Vector
from vectorstores.models import Collection, Document
from vectorstores.registry import STORES, StoreSettings
bot.instructions = "Ask EMAIL."
bot.save()
bot.instructions = ""
bot.save()
run = GoldenRun.objects.create(chatbot=bot, settings={}, saved_settings={"instructions": "Ask EMAIL."}, state="done")
GoldenResult.objects.create(run=run, question="Whom?", answer="Ask EMAIL.")
LogEntry.objects.log_actions(User.objects.create(username="owner").pk, [bot], 2, "As CSV, of the list with q=EMAIL")
AccessFailureLog.objects.create(username="EMAIL")
webhook = Webhook.objects.create(name="CRM", url="https://crm.example/x", events=[])
WebhookDelivery.objects.create(webhook=webhook, event="x", event_id="0" * 32, payload='{"user_id": "EMAIL"}')
store, key, question = STORES["local"](StoreSettings()), "may-zq7xk-jwvq-qxz9-example-return-0123", "May EMAIL return?"
names = {"parent_vector_id": key, "vector_id": key, "chunk_index": 0, "total_chunks": 1, "title": question}
store.create("shop", 3)
for _ in range(20):
    store.replace("shop", [Vector(key, np.array([1, 0, 0], "f4"), "Yes.", names)])
Document.objects.create(
    collection=Collection.objects.get(), parent_vector_id=key, title=question, source="Question and answer"
)
""".replace("EMAIL", RARE)


@pytest.mark.slow
def test_sqlite_files_contain_no_copies(tmp_path):
    """Erase while another connection is open, like that of a running server, which keeps the write-ahead log."""
    file = Path(shutil.copy(migrated_file(), tmp_path))
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{file}", "DJANGO_SETTINGS_MODULE": "tests.settings"}

    def run(*arguments):
        result = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def files_with_the_address():
        return [path.name for path in tmp_path.iterdir() if RARE.encode() in path.read_bytes().lower()]

    def indexed():
        query = "SELECT count(*) FROM logs_messagesearch_terms WHERE term IN ('zq7', 'q7x', 'xz9')"
        return sqlite3.connect(file).execute(query).fetchone()[0]

    run("-c", SEED)
    run("manage.py", "rebuild_search_index")  # as the worker does in production
    server = sqlite3.connect(file)
    server.execute("SELECT count(*) FROM logs_message").fetchone()
    assert indexed() == 3
    output = run("manage.py", "forget_user", "--email", RARE, "--yes", "--no-vacuum")
    assert "conversations: 1\nmessages: 60\n" in output
    assert "mentions of the address by others: 1\n" in output
    assert "puffer.sqlite3" in files_with_the_address()  # in the free space of rows deleted earlier
    run("manage.py", "forget_user", "--email", RARE, "--yes")
    assert files_with_the_address() == []
    assert b"zq7xk-jwvq" not in file.read_bytes()  # the document's id, which was derived from the question
    assert indexed() == 0
    assert server.execute("SELECT count(*) FROM logs_message").fetchone() == (39 * 60,)
    assert server.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    server.close()
