"""Text search over messages and visitors: results, safety of its SQL, updates of the index, cached results."""

import json
import random
import re

import pytest
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from logs.models import Conversation, Message, new_uuid
from logs.search import checks, indexer, tables
from logs.search import query as search
from logs.search.checks import check_index
from logs.search.indexer import index_batch, run_due
from logs.search.query import everything, matching, with_bots, with_message, with_visitor
from logs.search.tables import MESSAGES, SEARCHED, VISITORS
from tests.support.sql_injections import CLASSIC, MARK, payloads

LONG = "All of this sentence is in there, and the end of it tells one from the other by its last word: "
CONTENTS = {
    "shop": "Where is my 100% wool_hat?",
    "hundred": "100 woolxhats",
    "french": "Déjà VU à l'École, ÇA VA?",
    "norse": "Smørrebrød in Łódź, Straße",
    "greek": "ΟΔΥΣΣΕΥΣ και Ωραία",
    "russian": "Ёлка и Йод",
    "cjk": "東京は大きい",
    "korean": "한국어를 배워요",
    "japanese": "がくせい",
    "emoji": "Thanks 😀👍🏽!",
    "quotes": """She said "no", it's 'fine' ``x``""",
    "backslash": r"C:\temp\new \% \_",
    "syntax": "body: x AND y OR NOT z NEAR(a, b) col* ^start -minus {a b}: (c) + d",
    "lines": "first\nsecond line\n\nlast",
    "long": LONG + "apples",
    "longer": LONG + "pears",
    "combining": "Cafe\u0301",
    "zq": "zq",
    "q": "Q",
    "dots": "... --- !!!",
}


def make_conversation(*contents: str, **values) -> Conversation:
    conversation = Conversation.objects.create(identity=new_uuid(), **values)
    Message.objects.bulk_create(Message(conversation=conversation, role="user", content=text) for text in contents)
    return conversation


@pytest.fixture(params=["indexed", "added"])
def conversations(request, db):
    """Store a conversation for each of CONTENTS, with and without indexing it; return them by name."""
    conversations = {
        name: make_conversation("Hello.", content, conversation_uuid=name) for name, content in CONTENTS.items()
    }
    if request.param == "indexed":
        for searched in SEARCHED:
            index_batch(searched)
    return conversations


def names(found) -> list[str]:
    conversations = Conversation.objects.in_bulk(list(found))
    return [conversations[key].conversation_uuid for key in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("wool", ["shop", "hundred"]),
        ("WOOL", ["shop", "hundred"]),
        ("100%", ["shop"]),
        ("wool_hat", ["shop"]),
        ("%", ["shop", "backslash"]),
        ("_", ["shop", "backslash"]),
        ("%%", []),
        ("l_h", ["shop"]),
        ("deja vu", ["french"]),
        ("DÉJÀ", ["french"]),
        ("dejà", ["french"]),
        ("ecole, ca", ["french"]),
        ("école", ["french"]),
        ("smorrebrod", ["norse"]),
        ("lodz", ["norse"]),
        ("ŁÓDŹ", ["norse"]),
        ("strasse", ["norse"]),
        ("οδυσσευς", ["greek"]),
        ("ωραια", ["greek"]),
        ("елка", ["russian"]),
        ("ЙОД", ["russian"]),
        ("東京", ["cjk"]),
        ("京", ["cjk"]),
        ("大きい", ["cjk"]),
        ("京都", []),
        ("한국", ["korean"]),
        ("어를 배", ["korean"]),
        ("か", []),  # が is a different letter, not か with an accent
        ("が", ["japanese"]),
        ("😀", ["emoji"]),
        ("😀👍🏽!", ["emoji"]),
        ("👍", ["emoji"]),
        ("🎉", []),
        ('"no"', ["quotes"]),
        ('"', ["quotes"]),
        ('""', []),
        ("it's 'f", ["quotes"]),
        ("``", ["quotes"]),
        ("\\temp\\", ["backslash"]),
        ("\\", ["backslash"]),
        ("\\%", ["backslash"]),
        ("\\\\", []),
        ("AND", ["syntax", "long", "longer"]),
        ("x AND y", ["syntax"]),
        ("x OR y", []),
        ("NEAR(a, b)", ["syntax"]),
        ("NEAR(b, a)", []),
        ("col*", ["syntax"]),
        ("co*", []),
        ("wool*", []),
        ("^start", ["syntax"]),
        ("^Where", []),
        ("body:", ["syntax"]),
        ("body: wool", []),
        ("-minus", ["syntax"]),
        ("{a b}: (c)", ["syntax"]),
        ("(c) + d", ["syntax"]),
        ("second line", ["lines"]),
        ("first second", []),
        ("first\nsecond", ["lines"]),
        ("cafe", ["combining"]),
        ("café", ["combining"]),
        ("zq", ["zq"]),
        ("q", ["zq", "q"]),
        ("z", ["norse", "syntax", "zq"]),
        ("zz", []),
        ("...", ["dots"]),
        ("!!", ["dots"]),
        (LONG, ["long", "longer"]),
        (LONG + "APPLES", ["long"]),
        (LONG + "plums", []),
        ("x" * 5000, []),
        ("hello.", list(CONTENTS)),
        ("nowhere", []),
        ("\ud800", []),  # half of a surrogate pair, which databases cannot store
        ("a\ud800", []),
    ],
)
def test_message_search(conversations, text, found):
    assert names(with_message(text)) == found


def test_a_match_lies_within_one_message(db):
    make_conversation("one two", "three four")
    index_batch(MESSAGES)
    assert len(with_message("two three")) == len(with_message("twothree")) == 0
    assert len(with_message("two")) == len(with_message("three")) == 1


def test_random_texts_are_found_like_in_python(db):
    """Search random texts of few letters, so that many match, also at the ends of texts."""
    rng = random.Random(1)

    def text(length):
        return "".join(rng.choices("aáB_%. \"'\\é東", k=length))

    contents_by_id = {}
    for number in range(300):
        contents = [text(rng.randint(1, 12)) for _ in range(3)]
        contents_by_id[make_conversation(*contents).pk] = contents
        if number == 200:
            index_batch(MESSAGES)
    normalize = search.normalized
    for _ in range(300):
        wanted = text(rng.randint(1, 5))
        expected = [
            key
            for key, contents in contents_by_id.items()
            if any(normalize(wanted) in normalize(content) for content in contents)
        ]
        assert list(with_message(wanted)) == expected, wanted


# Visitors


@pytest.fixture
def visitors(db):
    users = get_user_model().objects
    ada = users.create_user("countess", "ada@lovelace.example", first_name="Ada", last_name="Kíng")
    users.create_user("silent", "silent@example.com", first_name="Silent")
    make_conversation("x", conversation_uuid="user", user=ada, session_id="of-a-user")
    make_conversation("x", conversation_uuid="guest", session_id="0a1b2c3d4e")
    make_conversation(
        "x", conversation_uuid="named", session_id="ffff0000",
        external_user_id="c-77", external_name="Zoë Müller", external_email="zoe@shop.example",
    )  # fmt: skip
    make_conversation("x", conversation_uuid="api")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ada King", ["user"]),
        ("king", ["user"]),
        ("KÍNG", ["user"]),
        ("countess", ["user"]),
        ("lovelace.ex", ["user"]),
        ("silent", []),  # has no conversation
        ("of-a-user", []),
        ("0a1b2c", ["guest"]),
        ("3D4E", ["guest"]),
        ("zoe mul", ["named"]),
        ("ZOË", ["named"]),
        ("zoe@", ["named"]),
        ("c-77", ["named"]),
        ("ffff", ["named"]),
        ("example", ["user", "named"]),
        ("ë", ["user", "guest", "named"]),
        ("%", []),
        ("_", []),
        ("müllerzoe", []),  # a match lies within one field
        ("Guest", []),
    ],
)
@pytest.mark.parametrize("is_indexed", [True, False])
def test_visitor_search(visitors, is_indexed, text, found):
    if is_indexed:
        index_batch(VISITORS)
    assert names(with_visitor(text)) == found


def test_the_admin_searches_messages_and_visitors(conversations):
    make_conversation("x", conversation_uuid="by visitor", external_user_id="1", external_name="Déjà Brew")
    found = matching(Conversation.objects.all(), "deja")
    assert set(found.values_list("conversation_uuid", flat=True)) == {"french", "by visitor"}
    assert matching(Conversation.objects.filter(conversation_uuid="french"), "deja").count() == 1
    assert matching(Conversation.objects.all(), "nowhere").count() == 0


# The SQL


@pytest.mark.slow
@pytest.mark.parametrize("parameter", ["message_search", "user_search", "bot_id", "page", "per_page"])
def test_payloads_reach_the_database_as_parameters_only(api, bot, parameter):
    make_conversation("Nothing of the kind.", chatbot=bot, session_id="one")
    for searched in SEARCHED:
        index_batch(searched)
    statements = set()

    def record(execute, sql, params, many, context):
        statements.add(sql)
        return execute(sql, params, many, context)

    def ask(value):
        response = api.get("/logs", params={parameter: value})
        assert response.status_code == 200, (value, response.text)
        return response.json(), response.headers["x-wp-total"]

    with connection.execute_wrapper(record):
        for text in ("harmless", "xy", "x", "x" * 200, "é", "...", "5"):  # every kind of search
            ask(text)
        expected_statements = set(statements)
        is_text = parameter in ("message_search", "user_search")
        tried = payloads() if is_text else payloads()[:CLASSIC]  # parameters that are numbers need fewer
        found = [payload for payload in tried if ask(MARK + payload)[0]]
        for payload in tried:
            ask(payload)
    if is_text:
        assert found == []
    assert len(payloads()) == 500
    # Django writes one placeholder per id of a page, and none where there is no page.
    assert {without_placeholders(sql) for sql in statements} <= {
        without_placeholders(sql) for sql in expected_statements
    }
    assert not any(MARK in sql for sql in statements)
    assert Conversation.objects.count() == Message.objects.count() == 1


def without_placeholders(sql: str) -> str:
    """Remove placeholders, and the names of savepoints, which Django makes unique."""
    return re.sub(r'"s\d+_x\d+"', "", sql.replace("%s, ", "").replace("%s,", ""))


def test_a_search_takes_few_queries(api, bot):
    for _ in range(30):
        make_conversation("Shoes", chatbot=bot, session_id="one")
    with CaptureQueriesContext(connection) as queries:
        rows = api.get(f"/logs?message_search=shoes&user_search=one&bot_id={bot.pk}").json()
    assert len(rows) == 20
    assert len(queries) <= 30  # most of them are PostgreSQL's settings and savepoints


# Updates of the index


@pytest.fixture
def empty_cache(transactional_db):
    """Clear the cache of search results before and after a test that commits transactions."""
    search.forget()
    yield
    search.forget()


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


def test_the_worker_indexes_new_messages(db, monkeypatch):
    skip_used_ids()
    monkeypatch.setattr(indexer, "BATCH", 10)
    make_conversation(*["wool"] * 9)
    assert not run_due()
    assert texts() == 0
    make_conversation(*["wool"] * 16)
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
def other_connection(empty_cache, monkeypatch):
    """Yield a second connection, at the start of a transaction."""
    skip_used_ids()
    monkeypatch.setattr(indexer, "BATCH", 10)
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
    make_conversation(*["wool"] * 20, conversation_uuid="third")
    assert not run_due()
    assert names(with_message("wool")) == ["third"]
    other_connection.commit()
    assert names(with_message("wool")) == ["first", "third"]
    assert run_due()
    assert names(with_message("late")) == ["first"]


@on_postgresql
def test_the_worker_does_not_wait_long_for_a_delete(other_connection):
    """Let another connection delete messages, and then a conversation, while the worker tries to index."""
    first, *_ = [make_conversation("wool", conversation_uuid=str(number)) for number in range(20)]
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


# Cached results


def queries_of(call) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        call()
    return [query["sql"] for query in queries]


def test_cached_results_are_extended_by_new_messages(empty_cache):
    make_conversation("wool", conversation_uuid="one")
    index_batch(MESSAGES)
    assert names(with_message("wool")) == ["one"]
    queries = queries_of(lambda: with_message("Wool"))
    assert not any("logs_messagetext" in sql or " MATCH " in sql for sql in queries)
    make_conversation("WOOL", conversation_uuid="two")
    make_conversation("cotton", conversation_uuid="three")
    assert names(with_message("wool")) == ["one", "two"]
    assert len(everything()) == 3


def test_a_deletion_or_a_change_invalidates_cached_results(empty_cache, bot):
    one, two = (make_conversation("wool", chatbot=bot, session_id=session_id) for session_id in ("s1", "s2"))

    def found():
        return [list(item) for item in (everything(), with_message("wool"), with_visitor("s1"), with_bots([bot.pk]))]

    assert found() == [[one.pk, two.pk], [one.pk, two.pk], [one.pk], [one.pk, two.pk]]
    Message.objects.filter(conversation=two).update(content="cotton")
    Conversation.objects.filter(pk=two.pk).update(session_id="s11")
    assert found() == [[one.pk, two.pk], [one.pk], [one.pk, two.pk], [one.pk, two.pk]]
    one.delete()
    assert found() == [[two.pk], [], [two.pk], [two.pk]]
    bot.delete()
    assert found() == [[two.pk], [], [two.pk], []]


def test_results_of_a_rolled_back_transaction_are_not_cached(empty_cache):
    make_conversation("wool", conversation_uuid="one")
    assert names(with_message("wool")) == ["one"]
    with transaction.atomic():
        make_conversation("wool", conversation_uuid="two")
        assert names(with_message("wool")) == ["one", "two"]
        transaction.set_rollback(True)
    assert names(with_message("wool")) == ["one"]
    make_conversation("cotton", conversation_uuid="three")  # SQLite gives it the id of the second
    assert names(with_message("wool")) == ["one"]


def test_the_cache_is_bounded(empty_cache, monkeypatch):
    monkeypatch.setattr(search, "MAX_SEARCHES", 5)
    make_conversation("wool")
    for number in range(20):
        with_message(f"wool {number}")
    assert len(search._sets) == 5
    monkeypatch.setattr(search, "MAX_BYTES", 0)
    assert len(with_message("wool")) == 1
    assert len(search._sets) == 0


def test_pages_and_totals_of_the_api_are_up_to_date(empty_cache, api_key):
    from tests.support.api import Api

    api = Api(api_key.issue())
    for number in range(25):
        make_conversation(f"wool {number}", conversation_uuid=str(number))

    def page(number):
        response = api.get(f"/logs?message_search=wool&per_page=10&page={number}")
        return [row["conversation_uuid"] for row in response.json()], response.headers["x-wp-total"]

    assert page(3) == ([str(number) for number in range(20, 25)], "25")
    Conversation.objects.filter(conversation_uuid="0").delete()
    make_conversation("wool", conversation_uuid="new")
    assert page(3) == (["21", "22", "23", "24", "new"], "25")
    assert page(4) == ([], "25")
    assert json.loads(api.get("/logs?message_search=wool+7").json()[0]["messages"])[0]["content"] == "wool 7"
