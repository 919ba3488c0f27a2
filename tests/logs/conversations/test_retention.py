"""Conversations that were kept long enough are deleted, and nothing else is."""

import threading
import time
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from logs.conversations.retention import CONVERSATION_BATCH, prune, run_due
from logs.conversations.writer import Turn, write_turns
from logs.models import Conversation, Message, UsageEvent, new_uuid


def make_conversation(days_old: float, messages: int = 2) -> Conversation:
    then = timezone.now() - timedelta(days=days_old)
    conversation = Conversation.objects.create(
        identity=new_uuid(), created_at=then, updated_at=then, message_count=messages
    )
    Message.objects.bulk_create(
        Message(conversation=conversation, role="user", content="Shoes?", created_at=then) for _ in range(messages)
    )
    return conversation


@pytest.fixture
def log(db):
    """Conversations of 100, 31, 29 and 0 days, and usage of the oldest and the newest."""
    kept = {days: make_conversation(days) for days in (100, 31, 29, 0)}
    for days in (100, 0):
        UsageEvent.objects.create(
            created_at=timezone.now() - timedelta(days=days),
            operation="completion", provider="openai", model="m", milliseconds=1, status=200,
        )  # fmt: skip
    return kept


def left(log):
    return [days for days, conversation in log.items() if Conversation.objects.filter(pk=conversation.pk).exists()]


def test_what_is_older_goes_with_its_messages(log, capsys):
    call_command("prune_logs", "--days", "30")
    assert capsys.readouterr().out == "Deleted 2 conversations.\n"
    assert left(log) == [29, 0]
    assert Message.objects.count() == 4
    assert UsageEvent.objects.count() == 2


def test_usage_goes_only_if_asked_for(log, capsys):
    call_command("prune_logs", "--days", "30", "--usage")
    assert capsys.readouterr().out == "Deleted 2 conversations.\nDeleted 1 usage record.\n"
    assert UsageEvent.objects.count() == 1


def test_a_dry_run_deletes_nothing(log, capsys):
    call_command("prune_logs", "--days", "30", "--usage", "--dry-run")
    said = "Would delete 2 conversations with 4 messages.\nWould delete 1 usage record.\n"
    assert capsys.readouterr().out == said
    assert left(log) == [100, 31, 29, 0]
    assert UsageEvent.objects.count() == 2


def test_the_last_message_counts(log, bot):
    old = make_conversation(100)
    turn = Turn("Still here?", None, reply="Yes", conversation_uuid="one")
    Conversation.objects.filter(pk=old.pk).update(identity=turn.identity(), conversation_uuid="one")
    write_turns([turn])
    prune(30)
    assert Conversation.objects.filter(pk=old.pk).exists()


def test_without_days_the_setting_counts(log, settings):
    settings.LOG_RETENTION_DAYS = 90
    call_command("prune_logs")
    assert left(log) == [31, 29, 0]
    call_command("prune_logs", "--days", "30")
    assert left(log) == [29, 0]


@pytest.mark.parametrize("days", [0, -1])
def test_without_either_nothing_is_deleted(log, settings, days):
    settings.LOG_RETENTION_DAYS = days
    with pytest.raises(CommandError, match="Pass --days N, or set LOG_RETENTION_DAYS"):
        call_command("prune_logs")
    assert left(log) == [100, 31, 29, 0]


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "x", "", "99999999999999999999"])
def test_days_that_are_none(log, days):
    with pytest.raises(CommandError, match="a number of days"):
        call_command("prune_logs", f"--days={days}")
    assert left(log) == [100, 31, 29, 0]


def test_in_batches(db, django_assert_max_num_queries):
    then = timezone.now() - timedelta(days=100)
    Conversation.objects.bulk_create(
        Conversation(identity=new_uuid(), created_at=then, updated_at=then) for _ in range(2 * CONVERSATION_BATCH + 1)
    )
    told = []
    with django_assert_max_num_queries(40):
        assert prune(30, told.append) == 2 * CONVERSATION_BATCH + 1
    assert told == [CONVERSATION_BATCH, CONVERSATION_BATCH, 1]
    assert not Conversation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_goes_on_meanwhile_is_kept():
    """Its turn is being written, in a transaction that is not done yet, when the old ones are deleted."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    going_on, old = make_conversation(100), make_conversation(100)
    written = threading.Event()

    def write():
        try:
            with transaction.atomic():
                Conversation.objects.filter(pk=going_on.pk).update(updated_at=timezone.now())
                written.set()
                time.sleep(0.5)
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(5)
    assert prune(30) == 1
    writer.join()
    assert list(Conversation.objects.all()) == [going_on]
    assert Conversation.objects.filter(pk=old.pk).count() == 0
    assert prune(30) == 0


def test_the_worker_does_it_by_itself_where_days_are_set(log, settings):
    settings.LOG_RETENTION_DAYS = 0
    assert run_due() is False
    assert left(log) == [100, 31, 29, 0]
    settings.LOG_RETENTION_DAYS = 30
    assert run_due() is True
    assert left(log) == [29, 0]
    assert run_due() is False
