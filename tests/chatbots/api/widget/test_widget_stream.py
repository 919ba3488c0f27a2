"""The widget's stream of events."""

import json
import time

import pytest

from chatbots.guards.limits import ALL_VISITORS
from chatbots.models import MessageCount, TokenAllowance
from logs.models import Conversation, Message, UsageEvent
from tests.support.providers.answers import CHAT_DONE, CHAT_END, CHAT_STREAM, chat_chunk
from tests.support.upstream import answering, streaming
from tests.support.widget.calls import QUESTION, events_of
from tests.support.widget.visitors import change


def test_an_answer_is_streamed_and_logged(widget, openai, bot):
    (start, started), *deltas, (end, done) = widget.ask()
    assert (start, end) == ("start", "done")
    assert {name for name, _ in deltas} == {"delta"}
    assert len(deltas) > 1
    text = "".join(delta["text"] for _, delta in deltas)
    assert done["text"] == text.strip()
    assert done["html"].startswith("<p>")
    assert done["usage"]["total_tokens"] > 0
    assert done["finish_reason"] == "stop"
    assert done["message_id"] == started["message_id"]
    sent = openai.sent[-1].json
    assert sent["stream"] is True
    assert sent["messages"][0] == {"role": "system", "content": "Sell shoes: SECRET."}
    question, reply = Message.objects.order_by("pk")
    assert (question.content, reply.content) == (QUESTION, done["text"])
    assert (question.message_id, reply.message_id) == (started["question_id"], started["message_id"])
    assert question.conversation.conversation_uuid == started["conversation_uuid"]
    assert question.conversation.source == "widget"
    assert UsageEvent.objects.get().chatbot == bot


def test_a_conversation_continues_under_its_uuid(widget, openai):
    first = widget.ask()[0][1]
    widget.ask("And socks?", conversation_uuid=first["conversation_uuid"])
    messages = [(message["role"], message["content"]) for message in openai.sent[-1].json["messages"]]
    answer = Message.objects.filter(role="bot").first().content
    assert messages[1:] == [("user", QUESTION), ("assistant", answer), ("user", "And socks?")]
    assert Conversation.objects.get().message_count == 4


def test_the_prompt_has_the_last_messages_without_failed_turns(widget, openai, bot):
    change(bot, max_messages=2)
    conversation = widget.ask("one")[0][1]["conversation_uuid"]
    good = openai.pages["/v1/chat/completions"]
    openai.pages["/v1/chat/completions"] = answering({"error": {"message": "SECRET key"}}, 500)
    assert widget.ask("two", conversation_uuid=conversation)[-1][0] == "error"
    openai.pages["/v1/chat/completions"] = good
    widget.ask("three", conversation_uuid=conversation)
    messages = [message["content"] for message in openai.sent[-1].json["messages"][1:]]
    assert messages == ["one", Message.objects.filter(role="bot").first().content, "three"]


def test_sources_come_before_the_answer(widget, openai, bot, api):
    item = {
        "id": "r",
        "content": "Shoes: yes, in all sizes.",
        "metadata": {"title": "Shoes", "url": "https://s.example"},
    }
    call = {"provider": "local", "target_id": "kb", "embedding_provider": "openai", "embedding_model": "emb-1"}
    assert api.post("/vector-stores/upsert", json={**call, "vectors": [item]}).status_code == 200
    change(bot, enable_vector_store=True, collections=["kb"], vector_store_confidence_threshold=0)
    events = widget.ask()
    assert [name for name, _ in events[:3]] == ["start", "status", "sources"]
    assert events[1][1] == {"status": "searching"}
    (source,) = events[2][1]
    assert (source["title"], source["url"]) == ("Shoes", "https://s.example")
    history = widget.get("history", conversation_uuid=events[0][1]["conversation_uuid"]).json()["messages"]
    assert history[1]["sources"][0]["title"] == "Shoes"
    change(bot, only_from_sources=True, refusal_message="Hi!")  # what the model says
    refusal = widget.ask()
    assert dict(refusal)["sources"] == []  # the last of two events
    history = widget.get("history", conversation_uuid=refusal[0][1]["conversation_uuid"]).json()["messages"]
    assert history[1]["sources"] == []
    change(bot, show_sources=False)
    assert "sources" not in dict(widget.ask())


def test_a_provider_error_is_logged_but_not_shown_to_the_visitor(widget, openai, bot):
    openai.pages["/v1/chat/completions"] = answering({"error": {"message": "SECRET account"}}, 429)
    (_, start), (name, error) = widget.ask()
    assert name == "error"
    assert (error["code"], error["data"]) == ("chatbot_unavailable", {"status": 429})
    assert "SECRET" not in json.dumps(error)
    assert "SECRET" in Message.objects.get(role="bot").error
    messages = widget.get("history", conversation_uuid=start["conversation_uuid"]).json()["messages"]
    assert messages[1]["failed"] is True
    assert "SECRET" not in json.dumps(messages)


def test_thinking_that_a_stream_cannot_hide_is_not_kept(widget, openai):
    """Models whose template begins the thinking send only its end: what came before has been shown by then."""
    pieces = ["They ask for shoes.", "\n</think>\n", "\nYes, we do."]
    openai.pages["/v1/chat/completions"] = streaming(
        [*(chat_chunk({"content": piece}) for piece in pieces), *CHAT_END], 0, "end", {}
    )
    done = dict(widget.ask())["done"]
    assert done["text"] == "Yes, we do."
    assert Message.objects.get(role="bot").content == "Yes, we do."


def test_a_broken_stream_keeps_the_partial_answer(widget, openai):
    openai.pages["/v1/chat/completions"] = streaming(CHAT_STREAM[:3], 0, "break off", {})
    events = widget.ask()
    assert events[-1][0] == "error"
    assert [data["text"] for name, data in events if name == "delta"] == ["H", "i!"]
    reply = Message.objects.get(role="bot")
    assert reply.content == "Hi!"
    assert reply.error


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "rest_missing_callback_param"),
        ({"message": 5}, 400, "rest_invalid_param"),
        ({"message": " \n"}, 400, "rest_aipkit_invalid_last_message"),
        ({"message": "\u200b\u3164"}, 400, "rest_aipkit_invalid_last_message"),
        ({"message": "x" * 8001}, 400, "rest_aipkit_invalid_last_message"),
        ({"message": "Hi", "conversation_uuid": "of-nobody"}, 404, "conversation_not_found"),
    ],
)
def test_invalid_calls_are_rejected_before_the_stream(widget, openai, body, status, code):
    response = widget.post("stream", **body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert not openai.sent


def test_limits_and_moderation_are_error_events_before_any_model_call(widget, openai, bot):
    cases = [
        ({"is_paused": True, "paused_message": "Back soon."}, "chatbot_paused", "Back soon."),
        ({"token_guest_limit": 0}, "token_limit_exceeded_guest_logic", None),
        ({"banned_words": "shoes", "banned_words_message": "No."}, "word_banned", "No."),
        ({"banned_ips": ["127.0.0.0/8"]}, "ip_banned", None),
    ]
    for changes, code, message in cases:
        before = {name: getattr(bot, name) for name in changes}
        change(bot, **changes)
        ((name, error),) = widget.ask()
        assert (name, error["code"]) == ("error", code)
        assert message is None or error["message"] == message
        assert ("quota_notice" in error) == code.startswith("token_limit")
        change(bot, **before)
    assert not openai.sent
    assert not Message.objects.exists()


FLAGGED = {"id": "modr-1", "model": "omni-moderation-latest", "results": [{"flagged": True, "categories": {}}]}


@pytest.mark.parametrize(
    ("settings_of_bot", "code"),
    [
        ({"banned_words": "shoes"}, "word_banned"),
        ({"banned_ips": ["127.0.0.0/8"]}, "ip_banned"),
        ({"openai_moderation_enabled": True}, "content_flagged_by_openai"),
    ],
)
def test_refused_questions_leave_the_messages_of_the_day_to_others(widget, openai, bot, settings_of_bot, code):
    openai.pages["/v1/moderations"] = answering(FLAGGED)
    change(bot, messages_per_day=2, **settings_of_bot)
    for _ in range(3):
        assert [(name, data["code"]) for name, data in widget.ask()] == [("error", code)]
    assert not MessageCount.objects.filter(subject=ALL_VISITORS, count__gt=0).exists()
    change(bot, **{name: type(value)() for name, value in settings_of_bot.items()})
    assert [widget.ask()[-1][0] for _ in range(3)] == ["done", "done", "error"]


def test_flagged_questions_count_for_their_visitor(widget, openai, bot):
    """Limit them, because each one is a call of OpenAI."""
    openai.pages["/v1/moderations"] = answering(FLAGGED)
    change(bot, messages_per_minute=2, messages_per_day=None, openai_moderation_enabled=True)
    codes = [widget.ask()[0][1]["code"] for _ in range(3)]
    flagged = "content_flagged_by_openai"
    assert codes in ([flagged, flagged, "rate_limit_exceeded"], [flagged] * 3)  # three, if a new minute began


def test_messages_per_minute_are_limited(widget, bot):
    change(bot, messages_per_minute=2)
    names = [widget.ask()[-1][0] for _ in range(3)]
    assert names in (["done", "done", "error"], ["done"] * 3)  # three, if a new minute began between the calls


def test_missing_usage_is_estimated_for_the_quota(widget, openai, bot):
    change(bot, token_guest_limit=1000)
    openai.pages["/v1/chat/completions"] = streaming([*CHAT_STREAM[:4], CHAT_DONE], 0, "end", {})
    assert dict(widget.ask())["done"]["usage"] is None
    of_visitor, of_network = TokenAllowance.objects.order_by("pk")
    assert 0 < of_visitor.used == of_network.used < 50


@pytest.mark.slow
def test_forged_forwarding_headers_do_not_evade_the_address_limit(widget, bot):
    change(bot, messages_per_minute_per_address=5, messages_per_minute=None)
    names, began = [], time.time()
    for number in range(1000):
        forged = {"X-Forwarded-For": f"10.{number // 256}.{number % 256}.1", "X-Real-IP": f"2001:db8::{number:x}"}
        response = widget.call("POST", "stream", json={"message": "Hi"}, headers=forged)
        names.append(events_of(response.text)[-1][0])
    minutes = int(time.time() // 60 - began // 60) + 1  # calendar minutes during the calls
    assert 5 <= names.count("done") <= 5 * minutes
    assert Conversation.objects.values("ip_address").distinct().count() == 1
