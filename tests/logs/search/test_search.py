"""Text search over messages and visitors: what is found, how it is asked for, and that the index follows."""

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


def talk(*contents: str, **values) -> Conversation:
    conversation = Conversation.objects.create(identity=new_uuid(), **values)
    Message.objects.bulk_create(Message(conversation=conversation, role="user", content=text) for text in contents)
    return conversation


@pytest.fixture(params=["indexed", "added"])
def said(request, db):
    """One conversation of each, which the index holds, or does not hold yet."""
    conversations = {name: talk("Hello.", content, conversation_uuid=name) for name, content in CONTENTS.items()}
    if request.param == "indexed":
        for searched in SEARCHED:
            index_batch(searched)
    return conversations


def names(found) -> list[str]:
    known = Conversation.objects.in_bulk(list(found))
    return [known[key].conversation_uuid for key in found]


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
        ("か", []),  # が is another letter, not か with an accent
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
        ("\ud800", []),  # half of a surrogate pair, which no database holds
        ("a\ud800", []),
    ],
)
def test_what_a_search_finds(said, text, found):
    assert names(with_message(text)) == found


def test_a_text_is_within_one_message(db):
    talk("one two", "three four")
    index_batch(MESSAGES)
    assert len(with_message("two three")) == len(with_message("twothree")) == 0
    assert len(with_message("two")) == len(with_message("three")) == 1


def test_any_text_is_found_as_python_would(db):
    """Of few letters, so that there are many matches, at the ends of texts too."""
    dice = random.Random(1)

    def text(length):
        return "".join(dice.choices("aáB_%. \"'\\é東", k=length))

    plain = {}
    for number in range(300):
        contents = [text(dice.randint(1, 12)) for _ in range(3)]
        plain[talk(*contents).pk] = contents
        if number == 200:
            index_batch(MESSAGES)
    fold = search.normalized
    for _ in range(300):
        wanted = text(dice.randint(1, 5))
        expected = [
            key for key, contents in plain.items() if any(fold(wanted) in fold(content) for content in contents)
        ]
        assert list(with_message(wanted)) == expected, wanted


# Visitors


@pytest.fixture
def visited(db):
    users = get_user_model().objects
    ada = users.create_user("countess", "ada@lovelace.example", first_name="Ada", last_name="Kíng")
    users.create_user("silent", "silent@example.com", first_name="Silent")
    talk("x", conversation_uuid="user", user=ada, session_id="of-a-user")
    talk("x", conversation_uuid="guest", session_id="0a1b2c3d4e")
    talk(
        "x", conversation_uuid="named", session_id="ffff0000",
        external_user_id="c-77", external_name="Zoë Müller", external_email="zoe@shop.example",
    )  # fmt: skip
    talk("x", conversation_uuid="api")


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
        ("müllerzoe", []),  # one field, then the other
        ("Guest", []),
    ],
)
@pytest.mark.parametrize("is_indexed", [True, False])
def test_visitors(visited, is_indexed, text, found):
    if is_indexed:
        index_batch(VISITORS)
    assert names(with_visitor(text)) == found


def test_the_admin_searches_both(said):
    talk("x", conversation_uuid="by visitor", external_user_id="1", external_name="Déjà Brew")
    found = matching(Conversation.objects.all(), "deja")
    assert set(found.values_list("conversation_uuid", flat=True)) == {"french", "by visitor"}
    assert matching(Conversation.objects.filter(conversation_uuid="french"), "deja").count() == 1
    assert matching(Conversation.objects.all(), "nowhere").count() == 0


# What is asked of the database


@pytest.mark.slow
@pytest.mark.parametrize("parameter", ["message_search", "user_search", "bot_id", "page", "per_page"])
def test_payloads_reach_the_database_as_parameters_only(api, bot, parameter):
    talk("Nothing of the kind.", chatbot=bot, session_id="one")
    for searched in SEARCHED:
        index_batch(searched)
    statements = set()

    def look(execute, sql, params, many, context):
        statements.add(sql)
        return execute(sql, params, many, context)

    def ask(value):
        response = api.get("/logs", params={parameter: value})
        assert response.status_code == 200, (value, response.text)
        return response.json(), response.headers["x-wp-total"]

    with connection.execute_wrapper(look):
        for text in ("harmless", "xy", "x", "x" * 200, "é", "...", "5"):  # every way there is to search
            ask(text)
        usual = set(statements)
        is_text = parameter in ("message_search", "user_search")
        some = payloads() if is_text else payloads()[:CLASSIC]  # where a number is expected, none gets far
        found = [payload for payload in some if ask(MARK + payload)[0]]
        for payload in some:
            ask(payload)
    if is_text:
        assert found == []
    assert len(payloads()) == 500
    # Django writes one placeholder per id of a page, and none where there is no page.
    assert {without_placeholders(sql) for sql in statements} <= {without_placeholders(sql) for sql in usual}
    assert not any(MARK in sql for sql in statements)
    assert Conversation.objects.count() == Message.objects.count() == 1


def without_placeholders(sql: str) -> str:
    """And without the names of savepoints, which are Django's and never the same."""
    return re.sub(r'"s\d+_x\d+"', "", sql.replace("%s, ", "").replace("%s,", ""))


def test_a_search_takes_few_queries(api, bot):
    for _ in range(30):
        talk("Shoes", chatbot=bot, session_id="one")
    with CaptureQueriesContext(connection) as queries:
        rows = api.get(f"/logs?message_search=shoes&user_search=one&bot_id={bot.pk}").json()
    assert len(rows) == 20
    assert len(queries) <= 30  # PostgreSQL's settings and savepoints are most of them


# The index follows


@pytest.fixture
def kept(transactional_db):
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


def start_over() -> None:
    """PostgreSQL does not use an id again, also not those of the tests before, which count as rows to take up."""
    talk("first", conversation_uuid="before")
    for searched in SEARCHED:
        while index_batch(searched):
            pass
    Conversation.objects.all().delete()


on_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="of SQLite's index")
on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="of PostgreSQL's index")


def test_what_is_deleted_changed_or_moved_is_no_longer_found(said):
    said["shop"].delete()
    Conversation.objects.filter(conversation_uuid="hundred").delete()
    assert names(with_message("wool")) == []
    message = Message.objects.get(content=CONTENTS["cjk"])
    message.content = "Ånother"
    message.save()
    assert names(with_message("東京")) == []
    assert names(with_message("another")) == ["cjk"]
    Message.objects.filter(pk=message.pk).update(conversation=said["zq"])
    assert names(with_message("another")) == ["zq"]
    said["french"].messages.all().delete()
    assert names(with_message("deja")) == []
    assert len(everything()) == len(CONTENTS) - 2


def test_nothing_of_what_is_deleted_stays_in_the_index(said):
    Conversation.objects.all().delete()
    assert [texts(), texts(VISITORS), outdated(), outdated(VISITORS)] == [0] * 4
    if connection.vendor == "sqlite":
        assert count("SELECT count(*) FROM logs_messagesearch_terms") == 0
        assert count("SELECT count(*) FROM logs_visitorsearch_terms") == 0


def test_what_is_left_of_a_conversation_is_found_at_once_and_indexed_again(said):
    talk("more wool", "and cotton", conversation_uuid="new")
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


def test_a_conversation_that_goes_on_is_taken_up_once_more(said):
    index_batch(MESSAGES)
    before = texts()
    Message.objects.create(conversation=said["shop"], role="user", content="Only felt?")
    index_batch(MESSAGES)
    assert texts() == before + 1
    assert names(with_message("felt")) == names(with_message("wool_hat")) == ["shop"]
    said["shop"].messages.filter(content="Hello.").delete()
    assert texts() == before - 1
    index_batch(MESSAGES)
    assert texts() == before
    assert names(with_message("felt")) == names(with_message("wool_hat")) == ["shop"]


def test_rows_that_bring_their_ids_are_found(said):
    for searched in SEARCHED:
        index_batch(searched)
    conversation = said["shop"]
    conversation.messages.filter(content="Hello.").delete()
    first = conversation.messages.get().pk - 1
    Message.objects.create(pk=first, conversation=conversation, role="user", content="Restored")
    assert names(with_message("restored")) == ["shop"]
    index_batch(MESSAGES)
    assert names(with_message("restored")) == names(with_message("wool_hat")) == ["shop"]


def test_the_separator_of_texts_finds_nothing_that_is_not_there(said):
    talk("a\x1fb", conversation_uuid="held")
    index_batch(MESSAGES)
    assert names(with_message("hello.\x1fwhere")) == []
    assert names(with_message("\x1f")) == names(with_message("A\x1fB")) == ["held"]


def test_the_worker_takes_up_what_was_added(db, monkeypatch):
    start_over()
    monkeypatch.setattr(indexer, "BATCH", 10)
    talk(*["wool"] * 9)
    assert not run_due()
    assert texts() == 0
    talk(*["wool"] * 16)
    assert run_due()
    assert run_due()
    assert not run_due()  # five are left, which is not worth a transaction
    assert texts() == 3
    assert len(with_message("wool")) == 2


def test_where_no_worker_is_a_search_takes_it_up(kept):
    conversation = talk()
    Message.objects.bulk_create(
        Message(conversation=conversation, role="user", content="wool") for _ in range(search.MAX_NOT_INDEXED + 1)
    )
    assert texts() == 0
    assert list(with_message("wool")) == [conversation.pk]
    assert texts() == 1
    assert list(with_message("wool")) == [conversation.pk]


@pytest.fixture
def other(kept, monkeypatch):
    """Another connection, within a transaction that has just begun."""
    start_over()
    monkeypatch.setattr(indexer, "BATCH", 10)
    other = connection.copy()
    other.settings_dict = connection.settings_dict
    other.set_autocommit(False)
    yield other
    other.close()


@on_postgresql
def test_the_worker_does_not_wait_long_for_who_writes(other):
    """And nothing that is not committed yet is left out for good, though rows after it are there."""
    first, *_ = (talk(conversation_uuid=name) for name in ("first", "second"))
    insert = (
        "INSERT INTO logs_message (conversation_id, message_id, role, content, created_at, provider, model, error,"
        " feedback, milliseconds) VALUES (%s, 'late', 'user', 'late wool', now(), '', '', '', '', 0)"
    )
    with other.cursor() as cursor:
        cursor.execute(insert, [first.pk])
    talk(*["wool"] * 20, conversation_uuid="third")
    assert not run_due()
    assert names(with_message("wool")) == ["third"]
    other.commit()
    assert names(with_message("wool")) == ["first", "third"]
    assert run_due()
    assert names(with_message("late")) == ["first"]


@on_postgresql
def test_the_worker_does_not_wait_long_for_who_deletes(other):
    """Who has counted a deletion of messages, and will want the conversations' table next."""
    first, *_ = [talk("wool", conversation_uuid=str(number)) for number in range(20)]
    with other.cursor() as cursor:
        cursor.execute("DELETE FROM logs_message WHERE conversation_id = %s", [first.pk])
    assert not run_due()
    with other.cursor() as cursor:
        cursor.execute("DELETE FROM logs_conversation WHERE id = %s", [first.pk])
    other.commit()
    assert run_due()
    assert len(with_message("wool")) == len(everything()) == 19


def test_rebuilding_finds_what_was_written_past_it(said):
    """By SQL, which folds nothing, and into a broken index."""
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
    talk("more wool", conversation_uuid="new")
    assert names(with_message("wool")) == ["shop", "hundred", "new"]


def test_the_index_is_there_after_all_migrations(db):
    assert run_checks(databases=["default"]) == []


@on_sqlite
def test_triggers_survive_a_table_created_again(db):
    """As a migration makes it: Django copies the rows, drops the table, and so its triggers."""
    with connection.cursor() as cursor:
        for name in tables.sqlite_triggers(MESSAGES):
            cursor.execute(f"DROP TRIGGER {name}")
    assert check_index(["default"])
    checks.create_after_migrations("default")
    assert check_index(["default"]) == []


@on_postgresql
def test_without_the_extension_a_search_is_slower_but_right(said):
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION pg_trgm CASCADE")
    assert [warning.id for warning in check_index(["default"])] == ["logs.W001"]
    assert names(with_message("wool")) == ["shop", "hundred"]
    assert names(with_message("l_h")) == ["shop"]
    assert run_due() in (True, False)


@on_postgresql
@pytest.mark.parametrize(
    ("text", "way"),
    [
        *((text, "Bitmap Index Scan on logs_messagesearch") for text in ("nowhere", "rare", LONG + "apples", "é-a")),
        *((text, "Seq Scan on logs_messagetext") for text in ("hello", "el", "o", "東京")),
    ],
)
def test_the_plan_that_runs_is_the_right_one_for_rare_common_and_absent_texts(db, text, way):
    plans = []

    def explain(execute, sql, params, many, context):
        if "string_agg" in sql and "FROM logs_messagetext WHERE" in sql:
            execute("EXPLAIN " + sql, params, many, context)
            plans.append("\n".join(line for (line,) in context["cursor"].fetchall()))
        return execute(sql, params, many, context)

    for number in range(200):
        talk("Hello.", "rare wool" if number == 77 else LONG + f"apples {number}" if number % 50 == 0 else "cotton")
    index_batch(MESSAGES)
    with connection.execute_wrapper(explain):
        with_message(text)
    assert len(plans) == 1
    assert way in plans[0]


# What is kept


def queries_of(call) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        call()
    return [query["sql"] for query in queries]


def test_what_was_found_is_kept_and_what_is_added_is_looked_through(kept):
    talk("wool", conversation_uuid="one")
    index_batch(MESSAGES)
    assert names(with_message("wool")) == ["one"]
    again = queries_of(lambda: with_message("Wool"))
    assert not any("logs_messagetext" in sql or " MATCH " in sql for sql in again)
    talk("WOOL", conversation_uuid="two")
    talk("cotton", conversation_uuid="three")
    assert names(with_message("wool")) == ["one", "two"]
    assert len(everything()) == 3


def test_what_is_kept_ends_with_a_deletion_or_a_change(kept, bot):
    one, two = talk("wool", chatbot=bot, session_id="s1"), talk("wool", chatbot=bot, session_id="s2")

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


def test_what_a_transaction_took_back_is_not_kept(kept):
    talk("wool", conversation_uuid="one")
    assert names(with_message("wool")) == ["one"]
    with transaction.atomic():
        talk("wool", conversation_uuid="two")
        assert names(with_message("wool")) == ["one", "two"]
        transaction.set_rollback(True)
    assert names(with_message("wool")) == ["one"]
    talk("cotton", conversation_uuid="three")  # where ids are used again, with the id of the second
    assert names(with_message("wool")) == ["one"]


def test_what_is_kept_has_a_bound(kept, monkeypatch):
    monkeypatch.setattr(search, "MAX_SEARCHES", 5)
    talk("wool")
    for number in range(20):
        with_message(f"wool {number}")
    assert len(search._sets) == 5
    monkeypatch.setattr(search, "MAX_BYTES", 0)
    assert len(with_message("wool")) == 1
    assert len(search._sets) == 0


def test_pages_and_totals_of_the_api_follow(kept, api_key):
    from tests.support.api import Api

    api = Api(api_key.issue())
    for number in range(25):
        talk(f"wool {number}", conversation_uuid=str(number))

    def page(number):
        response = api.get(f"/logs?message_search=wool&per_page=10&page={number}")
        return [row["conversation_uuid"] for row in response.json()], response.headers["x-wp-total"]

    assert page(3) == ([str(number) for number in range(20, 25)], "25")
    Conversation.objects.filter(conversation_uuid="0").delete()
    talk("wool", conversation_uuid="new")
    assert page(3) == (["21", "22", "23", "24", "new"], "25")
    assert page(4) == ([], "25")
    assert json.loads(api.get("/logs?message_search=wool+7").json()[0]["messages"])[0]["content"] == "wool 7"
