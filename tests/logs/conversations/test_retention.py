"""Retention: old conversations are deleted, and nothing else."""

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
    """Store conversations that are 100, 31, 29 and 0 days old, and usage records that are 100 and 0 days old."""
    conversations = {days: make_conversation(days) for days in (100, 31, 29, 0)}
    for days in (100, 0):
        UsageEvent.objects.create(
            created_at=timezone.now() - timedelta(days=days),
            operation="completion", provider="openai", model="m", milliseconds=1, status=200,
        )  # fmt: skip
    return conversations


def remaining_days(log):
    return [days for days, conversation in log.items() if Conversation.objects.filter(pk=conversation.pk).exists()]


def test_older_conversations_are_deleted_with_their_messages(log, capsys):
    call_command("prune_logs", "--days", "30")
    assert capsys.readouterr().out == "Deleted 2 conversations.\n"
    assert remaining_days(log) == [29, 0]
    assert Message.objects.count() == 4
    assert UsageEvent.objects.count() == 2


def test_usage_is_deleted_only_with_its_option(log, capsys):
    call_command("prune_logs", "--days", "30", "--usage")
    assert capsys.readouterr().out == "Deleted 2 conversations.\nDeleted 1 usage record.\n"
    assert UsageEvent.objects.count() == 1


def test_a_dry_run_deletes_nothing(log, capsys):
    call_command("prune_logs", "--days", "30", "--usage", "--dry-run")
    expected = "Would delete 2 conversations with 4 messages.\nWould delete 1 usage record.\n"
    assert capsys.readouterr().out == expected
    assert remaining_days(log) == [100, 31, 29, 0]
    assert UsageEvent.objects.count() == 2


def test_the_age_is_that_of_the_last_message(log, bot):
    old = make_conversation(100)
    turn = Turn("Still here?", None, reply="Yes", conversation_uuid="one")
    Conversation.objects.filter(pk=old.pk).update(identity=turn.identity(), conversation_uuid="one")
    write_turns([turn])
    prune(30)
    assert Conversation.objects.filter(pk=old.pk).exists()


def test_days_default_to_the_setting(log, settings):
    settings.LOG_RETENTION_DAYS = 90
    call_command("prune_logs")
    assert remaining_days(log) == [31, 29, 0]
    call_command("prune_logs", "--days", "30")
    assert remaining_days(log) == [29, 0]


@pytest.mark.parametrize("days", [0, -1])
def test_without_days_and_setting_nothing_is_deleted(log, settings, days):
    settings.LOG_RETENTION_DAYS = days
    with pytest.raises(CommandError, match="Pass --days N, or set LOG_RETENTION_DAYS"):
        call_command("prune_logs")
    assert remaining_days(log) == [100, 31, 29, 0]


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "x", "", "99999999999999999999"])
def test_invalid_days_are_refused(log, days):
    with pytest.raises(CommandError, match="a number of days"):
        call_command("prune_logs", f"--days={days}")
    assert remaining_days(log) == [100, 31, 29, 0]


def test_conversations_are_deleted_in_batches(db, django_assert_max_num_queries):
    then = timezone.now() - timedelta(days=100)
    Conversation.objects.bulk_create(
        Conversation(identity=new_uuid(), created_at=then, updated_at=then) for _ in range(2 * CONVERSATION_BATCH + 1)
    )
    batch_sizes = []
    with django_assert_max_num_queries(40):
        assert prune(30, batch_sizes.append) == 2 * CONVERSATION_BATCH + 1
    assert batch_sizes == [CONVERSATION_BATCH, CONVERSATION_BATCH, 1]
    assert not Conversation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_conversation_continued_meanwhile_is_kept():
    """Prune while another transaction, not yet committed, writes a turn of an old conversation."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    continued, old = make_conversation(100), make_conversation(100)
    written = threading.Event()

    def write():
        try:
            with transaction.atomic():
                Conversation.objects.filter(pk=continued.pk).update(updated_at=timezone.now())
                written.set()
                time.sleep(0.5)
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(5)
    assert prune(30) == 1
    writer.join()
    assert list(Conversation.objects.all()) == [continued]
    assert Conversation.objects.filter(pk=old.pk).count() == 0
    assert prune(30) == 0


def test_the_worker_prunes_if_the_setting_is_positive(log, settings):
    settings.LOG_RETENTION_DAYS = 0
    assert run_due() is False
    assert remaining_days(log) == [100, 31, 29, 0]
    settings.LOG_RETENTION_DAYS = 30
    assert run_due() is True
    assert remaining_days(log) == [29, 0]
    assert run_due() is False
