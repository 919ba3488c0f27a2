"""GET /logs: rows, filters, pages and headers."""

import json
from datetime import UTC, datetime

import pytest
from django.contrib.auth import get_user_model

from chatbots.models import Chatbot
from logs.conversations.writer import Turn, write_turns
from logs.models import Conversation
from puffer.models import ApiKey
from tests.support.api import Api

USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


@pytest.fixture
def logged(bot):
    """Store three conversations: an API caller's, a user's, and a failed one with another bot."""
    other = Chatbot.objects.create(name="Other")
    ada = get_user_model().objects.create_user("ada", "ada@lovelace.example", first_name="Ada", last_name="King")

    def turn(question, reply="Fine.", **more):
        return Turn(question, reply=reply, provider="openai", model="m", usage=USAGE, **{"chatbot_id": bot.pk, **more})

    write_turns([turn("Where is my 100% wool_hat?", conversation_uuid="one", ip_address="10.0.0.1")])
    write_turns([turn("Bonjour à tous", conversation_uuid="two", user_id=ada.pk)])
    write_turns([turn("Again", conversation_uuid="two", user_id=ada.pk)])
    write_turns([turn("Other", reply="", error="It broke.", conversation_uuid="three", chatbot_id=other.pk)])
    Conversation.objects.filter(conversation_uuid="three").update(session_id="sess-42")
    return {"bot": bot, "other": other, "ada": ada}


def uuids(response):
    assert response.status_code == 200
    return [row["conversation_uuid"] for row in response.json()]


def test_rows_have_the_plugins_fields_as_strings_or_null(api, logged):
    row = api.get("/logs").json()[0]
    assert list(row) == [
        "id", "bot_id", "user_id", "session_id", "conversation_uuid", "is_guest", "module", "messages",
        "message_count", "first_message_ts", "last_message_ts", "ip_address", "user_wp_role", "created_at",
        "updated_at", "user_display_name", "bot_name",
    ]  # fmt: skip
    assert all(value is None or isinstance(value, str) for value in row.values())
    assert (row["bot_id"], row["bot_name"], row["is_guest"]) == (str(logged["bot"].pk), "Shop", "1")
    assert (row["user_display_name"], row["message_count"], row["ip_address"]) == ("Guest", "2", "10.0.0.1")
    created = datetime.strptime(row["created_at"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(created.timestamp() - int(row["last_message_ts"])) <= 1


def test_messages_are_a_json_string(api, logged):
    question, reply = json.loads(api.get("/logs").json()[0]["messages"])
    assert question["role"] == "user"
    assert question["content"] == "Where is my 100% wool_hat?"
    assert set(question) == {"message_id", "role", "content", "timestamp"}
    assert reply | {"message_id": 0, "timestamp": 0} == {
        "message_id": 0, "role": "bot", "content": "Fine.", "timestamp": 0,
        "provider": "openai", "model": "m", "usage": USAGE,
    }  # fmt: skip


def test_rows_are_sorted_oldest_first(api, logged):
    assert uuids(api.get("/logs")) == ["one", "two", "three"]


def test_rows_name_users_and_deleted_bots(api, logged):
    logged["other"].delete()
    rows = api.get("/logs").json()
    assert [row["user_display_name"] for row in rows] == ["Guest", "Ada King", "Guest"]
    assert (rows[1]["is_guest"], rows[1]["user_id"]) == ("0", str(logged["ada"].pk))
    assert (rows[2]["bot_id"], rows[2]["bot_name"]) == (None, "(Deleted Bot)")


@pytest.mark.parametrize(
    ("query", "found", "total", "pages"),
    [
        ("", ["one", "two", "three"], 3, 1),
        ("per_page=2", ["one", "two"], 3, 2),
        ("per_page=2&page=2", ["three"], 3, 2),
        ("page=9", [], 3, 1),
        ("per_page=1000", ["one", "two", "three"], 3, 1),
        ("per_page=0", ["one"], 3, 3),
        ("per_page=-2", ["one", "two"], 3, 2),
        ("per_page=abc", ["one"], 3, 3),
        ("per_page=2.7", ["one", "two"], 3, 2),
        ("page=0", ["one", "two", "three"], 3, 1),
        ("page=-1", ["one", "two", "three"], 3, 1),
        ("page=abc", ["one", "two", "three"], 3, 1),
        ("page=99999999999999999999999999", [], 3, 1),
        ("page[]=2", ["one", "two", "three"], 3, 1),
        ("bot_id=0", ["one", "two", "three"], 3, 1),
        ("bot_id=abc", ["one", "two", "three"], 3, 1),
        ("bot_id=999", [], 0, 0),
        ("bot_id=99999999999999999999999999", [], 0, 0),
        ("message_search=wool", ["one"], 1, 1),
        ("message_search=WOOL", ["one"], 1, 1),
        ("message_search=100%25", ["one"], 1, 1),
        ("message_search=%25", ["one"], 1, 1),  # % and _ are not wildcards
        ("message_search=_", ["one"], 1, 1),
        ("message_search=%20%20again%20", ["two"], 1, 1),
        ("message_search=à%20TOUS", ["two"], 1, 1),
        ("message_search=a%20tous", ["two"], 1, 1),
        ("message_search=nothing", [], 0, 0),
        ("message_search=openai", [], 0, 0),  # only the texts of messages are searched
        ("message_search=%00", ["one", "two", "three"], 3, 1),
        ("message_search=<b>wool</b>", ["one"], 1, 1),
        ("message_search[]=wool", ["one", "two", "three"], 3, 1),
        ("user_search=Ada", ["two"], 1, 1),
        ("user_search=king", ["two"], 1, 1),
        ("user_search=Ada%20King", ["two"], 1, 1),
        ("user_search=lovelace", ["two"], 1, 1),
        ("user_search=sess-4", ["three"], 1, 1),
        ("user_search=Guest", [], 0, 0),
        ("user_search=ada&message_search=wool", [], 0, 0),
        ("user_search=ada&message_search=again", ["two"], 1, 1),
    ],
)
def test_filters_and_pages(api, logged, query, found, total, pages):
    response = api.get(f"/logs?{query}")
    assert uuids(response) == found
    assert (response.headers["x-wp-total"], response.headers["x-wp-totalpages"]) == (str(total), str(pages))


def test_filter_by_bot(api, logged):
    assert uuids(api.get(f"/logs?bot_id={logged['other'].pk}")) == ["three"]


def test_a_bound_key_reads_only_its_bots(db, logged):
    key = ApiKey(name="bound", scopes=["logs"], is_bound=True)
    api = Api(key.issue())
    key.chatbots.set([logged["other"]])
    assert uuids(api.get("/logs")) == ["three"]
    assert uuids(api.get(f"/logs?bot_id={logged['bot'].pk}")) == []


def test_the_number_of_queries_does_not_grow(api, logged, django_assert_max_num_queries):
    api.get("/logs")
    with django_assert_max_num_queries(5):
        api.get("/logs")
