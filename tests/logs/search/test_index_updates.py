"""Updates of the search index: new, changed and deleted rows, rebuilding, and a damaged index."""

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection

from logs.models import Conversation, Message
from logs.search import checks, tables
from logs.search import query as search
from logs.search.checks import check_index
from logs.search.indexer import BATCH, index_batch, run_due
from logs.search.query import everything, with_message, with_visitor
from logs.search.tables import MESSAGES, SEARCHED, VISITORS
from tests.support.searched_conversations import CONTENTS, LONG, make_conversation, names


def count(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def texts(searched=MESSAGES) -> int:
    return count(f"SELECT count(*) FROM {searched.texts}")


def outdated(searched=MESSAGES) -> int:
    return count(f"SELECT count(*) FROM {searched.outdated}")


def skip_used_ids() -> None:
    """Index past the ids of earlier tests: PostgreSQL does not reuse ids, so they would count as rows to index."""
    make_conversation("first", conversation_uuid="before")
    for searched in SEARCHED:
        while index_batch(searched):
            pass
    Conversation.objects.all().delete()


on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="tests SQLite's index")


on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="tests PostgreSQL's index")


def test_deleted_changed_or_moved_messages_are_no_longer_found(conversations):
    conversations["shop"].delete()
    Conversation.objects.filter(conversation_uuid="hundred").delete()
    assert names(with_message("wool")) == []
    message = Message.objects.get(content=CONTENTS["cjk"])
    message.content = "Ånother"
    message.save()
    assert names(with_message("東京")) == []
    assert names(with_message("another")) == ["cjk"]
    Message.objects.filter(pk=message.pk).update(conversation=conversations["zq"])
    assert names(with_message("another")) == ["zq"]
    conversations["french"].messages.all().delete()
    assert names(with_message("deja")) == []
    assert len(everything()) == len(CONTENTS) - 2


def test_deleted_conversations_are_removed_from_the_index(conversations):
    Conversation.objects.all().delete()
    assert [texts(), texts(VISITORS), outdated(), outdated(VISITORS)] == [0] * 4
    if connection.vendor == "sqlite":
        assert count("SELECT count(*) FROM logs_messagesearch_terms") == 0
        assert count("SELECT count(*) FROM logs_visitorsearch_terms") == 0


def test_changed_conversations_are_found_at_once_and_reindexed(conversations):
    make_conversation("more wool", "and cotton", conversation_uuid="new")
    index_batch(MESSAGES)
    Message.objects.get(content="and cotton").delete()
    Message.objects.filter(content=CONTENTS["shop"]).update(content="silk", normalized=None)
    assert outdated() == 2
    assert names(with_message("wool")) == ["hundred", "new"]
    assert names(with_message("cotton")) == []
    assert names(with_message("silk")) == ["shop"]
    assert run_due()
    assert outdated() == 0
    assert names(with_message("wool")) == ["hundred", "new"]
    assert names(with_message("silk")) == ["shop"]
    assert names(with_message("hello.")) == list(CONTENTS)
    assert not run_due()


def test_new_messages_of_an_indexed_conversation_are_indexed(conversations):
    index_batch(MESSAGES)
    before = texts()
    Message.objects.create(conversation=conversations["shop"], role="user", content="Only felt?")
    index_batch(MESSAGES)
    assert texts() == before + 1
    assert names(with_message("felt")) == names(with_message("wool_hat")) == ["shop"]
    conversations["shop"].messages.filter(content="Hello.").delete()
    assert texts() == before - 1
    index_batch(MESSAGES)
    assert texts() == before
    assert names(with_message("felt")) == names(with_message("wool_hat")) == ["shop"]


def test_messages_with_given_ids_are_found(conversations):
    for searched in SEARCHED:
        index_batch(searched)
    conversation = conversations["shop"]
    conversation.messages.filter(content="Hello.").delete()
    first = conversation.messages.get().pk - 1
    Message.objects.create(pk=first, conversation=conversation, role="user", content="Restored")
    assert names(with_message("restored")) == ["shop"]
    index_batch(MESSAGES)
    assert names(with_message("restored")) == names(with_message("wool_hat")) == ["shop"]


def test_the_separator_of_texts_matches_only_itself(conversations):
    make_conversation("a\x1fb", conversation_uuid="held")
    index_batch(MESSAGES)
    assert names(with_message("hello.\x1fwhere")) == []
    assert names(with_message("\x1f")) == names(with_message("A\x1fB")) == ["held"]


def test_the_worker_indexes_new_messages(db):
    skip_used_ids()
    make_conversation(*["wool"] * (BATCH - 1))
    assert not run_due()
    assert texts() == 0
    make_conversation(*["wool"] * (BATCH + 6))
    assert run_due()
    assert run_due()
    assert not run_due()  # the remaining five are too few for a transaction
    assert texts() == 3
    assert len(with_message("wool")) == 2


def test_a_search_indexes_new_messages_if_no_worker_runs(empty_cache):
    conversation = make_conversation()
    Message.objects.bulk_create(
        Message(conversation=conversation, role="user", content="wool") for _ in range(search.MAX_NOT_INDEXED + 1)
    )
    assert texts() == 0
    assert list(with_message("wool")) == [conversation.pk]
    assert texts() == 1
    assert list(with_message("wool")) == [conversation.pk]


@pytest.fixture
def other_connection(empty_cache):
    """Yield a second connection, at the start of a transaction."""
    skip_used_ids()
    other_connection = connection.copy()
    other_connection.settings_dict = connection.settings_dict
    other_connection.set_autocommit(False)
    yield other_connection
    other_connection.close()


@on_postgresql
def test_the_worker_does_not_wait_long_for_a_writer(other_connection):
    """Check also that an uncommitted message is indexed later, although rows with higher ids are indexed first."""
    first, *_ = (make_conversation(conversation_uuid=name) for name in ("first", "second"))
    insert = (
        "INSERT INTO logs_message (conversation_id, message_id, role, content, created_at, provider, model, error,"
        " feedback, milliseconds) VALUES (%s, 'late', 'user', 'late wool', now(), '', '', '', '', 0)"
    )
    with other_connection.cursor() as cursor:
        cursor.execute(insert, [first.pk])
    make_conversation(*["wool"] * 2 * BATCH, conversation_uuid="third")
    assert not run_due()
    assert names(with_message("wool")) == ["third"]
    other_connection.commit()
    assert names(with_message("wool")) == ["first", "third"]
    assert run_due()
    assert names(with_message("late")) == ["first"]


@on_postgresql
def test_the_worker_does_not_wait_long_for_a_delete(other_connection):
    """Let another connection delete messages, and then a conversation, while the worker tries to index."""
    first, *_ = [make_conversation("wool", conversation_uuid=str(number)) for number in range(19)]
    make_conversation(*["wool"] * BATCH, conversation_uuid="many")
    with other_connection.cursor() as cursor:
        cursor.execute("DELETE FROM logs_message WHERE conversation_id = %s", [first.pk])
    assert not run_due()
    with other_connection.cursor() as cursor:
        cursor.execute("DELETE FROM logs_conversation WHERE id = %s", [first.pk])
    other_connection.commit()
    assert run_due()
    assert len(with_message("wool")) == len(everything()) == 19


def test_rebuilding_includes_rows_written_by_sql(conversations):
    """Write rows by SQL, which does not normalize them, and into a broken index."""
    Message.objects.filter(content=CONTENTS["cjk"]).update(content="Ünseen")
    Conversation.objects.filter(conversation_uuid="cjk").update(external_name="Ünknown", external_user_id="1")
    assert names(with_message("unseen")) == names(with_visitor("unknown")) == []
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for searched in SEARCHED:
                cursor.execute(f"INSERT INTO {searched.index}({searched.index}) VALUES ('delete-all')")
                for name in tables.sqlite_triggers(searched):
                    cursor.execute(f"DROP TRIGGER {name}")
            assert any(warning.id == "logs.W001" for warning in check_index(["default"]))
    call_command("rebuild_search_index")
    assert check_index(["default"]) == []
    assert names(with_message("unseen")) == names(with_visitor("unknown")) == ["cjk"]
    assert names(with_message("wool")) == ["shop", "hundred"]
    make_conversation("more wool", conversation_uuid="new")
    assert names(with_message("wool")) == ["shop", "hundred", "new"]


def test_the_index_exists_after_all_migrations(db):
    assert run_checks(databases=["default"]) == []


@on_sqlite
def test_triggers_are_restored_after_a_table_is_recreated(db):
    """Drop the triggers like a migration does, in which Django copies the rows and drops the old table."""
    with connection.cursor() as cursor:
        for name in tables.sqlite_triggers(MESSAGES):
            cursor.execute(f"DROP TRIGGER {name}")
    assert check_index(["default"])
    checks.create_after_migrations("default")
    assert check_index(["default"]) == []


@on_postgresql
def test_searches_work_without_the_postgresql_extension(conversations):
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION pg_trgm CASCADE")
    assert [warning.id for warning in check_index(["default"])] == ["logs.W001"]
    assert names(with_message("wool")) == ["shop", "hundred"]
    assert names(with_message("l_h")) == ["shop"]
    assert run_due() in (True, False)


@on_postgresql
@pytest.mark.parametrize(
    ("text", "scan"),
    [
        *((text, "Bitmap Index Scan on logs_messagesearch") for text in ("nowhere", "rare", LONG + "apples", "é-a")),
        *((text, "Seq Scan on logs_messagetext") for text in ("hello", "el", "o", "東京")),
    ],
)
def test_the_query_plan_fits_rare_common_and_absent_texts(db, text, scan):
    plans = []

    def explain(execute, sql, params, many, context):
        if "string_agg" in sql and "FROM logs_messagetext WHERE" in sql:
            execute("EXPLAIN " + sql, params, many, context)
            plans.append("\n".join(line for (line,) in context["cursor"].fetchall()))
        return execute(sql, params, many, context)

    for number in range(200):
        make_conversation(
            "Hello.", "rare wool" if number == 77 else LONG + f"apples {number}" if number % 50 == 0 else "cotton"
        )
    index_batch(MESSAGES)
    with connection.execute_wrapper(explain):
        with_message(text)
    assert len(plans) == 1
    assert scan in plans[0]
