"""Text search over messages: what is found, and cached results."""

import json
import random

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from logs.models import Conversation, Message
from logs.search import query as search
from logs.search.indexer import index_batch
from logs.search.query import everything, with_bots, with_message, with_visitor
from logs.search.tables import MESSAGES
from tests.support.searched_conversations import CONTENTS, LONG, make_conversation, names


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
    make_conversation("wool")
    for number in range(search.MAX_SEARCHES + 5):
        with_message(f"wool {number}")
    assert len(search._sets) == search.MAX_SEARCHES
    monkeypatch.setattr(search, "MAX_BYTES", 0)  # 32 MB of sets would take millions of conversations
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
