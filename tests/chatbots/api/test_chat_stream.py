"""POST /chat/{bot_id}/message with `Accept: text/event-stream`: the reply piece by piece."""

import pytest

from logs.models import Conversation, Message, UsageEvent
from tests.support.providers.answers import CHAT_COMPLETION, STREAMS
from tests.support.widget.calls import events_of

QUESTION = {"messages": [{"role": "user", "content": "Hello"}]}


def ask(api, bot, accept="text/event-stream", **more):
    return api.post(f"/chat/{bot.pk}/message", json=QUESTION | more, headers={"Accept": accept})


def test_the_reply_comes_in_pieces_and_ends_with_the_whole_answer(api, bot, upstream):
    upstream.will_stream(STREAMS["openai"])
    response = ask(api, bot)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    (start, ids), *pieces, (done, answer) = events_of(response.text)
    assert (start, done) == ("start", "done")
    assert {name for name, _ in pieces} == {"delta"}
    assert len(pieces) > 1
    assert "".join(data["text"] for _, data in pieces) == answer["reply"]
    assert list(answer) == ["reply", "usage", "bot_id", "model", "conversation_uuid"]
    assert answer["conversation_uuid"] == ids["conversation_uuid"]
    (sent,) = upstream.sent
    assert sent.json["stream"] is True
    assert Conversation.objects.get().conversation_uuid == ids["conversation_uuid"]
    assert Message.objects.get(role="bot").content == answer["reply"]
    (usage,) = UsageEvent.objects.all()
    assert (usage.status, usage.total_tokens) == (200, answer["usage"]["total_tokens"])


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/event-stream", False),
        ("text/event-stream;q=0.5, application/json", False),
        ("application/json;q=0.5, text/event-stream", True),
        ("text/event-stream, */*;q=0.1", True),
        ("text/*", True),
        ("text/html", False),
        ("a,;=,/" * 500, False),
    ],
)
def test_the_client_chooses_by_its_accept_header(api, bot, upstream, accept, is_stream):
    if is_stream:
        upstream.will_stream(STREAMS["openai"])
    else:
        upstream.will_answer(CHAT_COMPLETION)
    response = ask(api, bot, accept)
    assert response.headers["content-type"].startswith("text/event-stream" if is_stream else "application/json")
    assert "Accept" in response.headers["vary"]


def test_a_failure_after_the_start_is_the_last_event(api, bot, upstream):
    upstream.will_stream(STREAMS["openai"][:2], then="break off")
    *_, (name, error) = events_of(ask(api, bot).text)
    assert name == "error"
    assert (error["code"], error["data"]["status"]) == ("http_request_failed", 502)
    assert "OpenAI" in error["message"]  # for the caller, whose key it is


@pytest.mark.parametrize(
    ("change", "status"), [({"messages": []}, 400), ({"messages": [{"role": "user", "content": " "}]}, 400)]
)
def test_what_is_refused_before_the_turn_is_an_ordinary_error(api, bot, upstream, change, status):
    response = ask(api, bot, **change)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/json")
    assert not upstream.sent


def test_strangers_and_other_bots_are_refused_as_without_a_stream(api, bot):
    assert api.request("POST", f"/chat/{bot.pk}/message", key=None, json=QUESTION).status_code == 401
    assert api.post("/chat/999/message", json=QUESTION, headers={"Accept": "text/event-stream"}).status_code == 404
