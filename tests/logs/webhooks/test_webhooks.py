"""Webhooks: the events, their subscribers, signatures, retries and timeouts."""

import json
import re
import time

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Chatbot, MessageCount
from chatbots.widget import events as widget_events
from logs.conversations.writer import write_turns
from logs.models import Conversation
from logs.webhooks.events import subscriber_of
from logs.webhooks.models import EventName, Webhook, WebhookDelivery
from tests.support.providers.answers import CHAT_COMPLETION, CHAT_STREAM
from tests.support.upstream import streaming
from tests.support.webhooks import DOCUMENT, run_worker, turn_for
from tests.support.widget.calls import Widget

SHOP = "https://shop.example"


@pytest.fixture
def widget(api, bot, upstream):
    upstream.pages["/v1/chat/completions"] = streaming(CHAT_STREAM, 0, "end", {})
    return Widget(api, bot)


def queued(**filters):
    """Return the payloads in the outbox, in order."""
    return [json.loads(delivery.payload) for delivery in WebhookDelivery.objects.filter(**filters).order_by("id")]


def event_names():
    return [event["event"] for event in queued()]


# Events


def test_the_events_of_a_visit_from_its_start_to_a_limit(webhook, widget, bot):
    widget.begin()
    started, _, _, done = (data for name, data in widget.ask() if name in ("start", "done") or name == "delta")
    first = {"conversation_uuid": started["conversation_uuid"], "message_id": started["message_id"]}
    assert widget.post("feedback", feedback="up", **first).status_code == 200
    assert widget.post("feedback", feedback="none", **first).status_code == 200
    widget.ask()
    for _ in range(3):
        assert widget.ask()[0][0] == "error"  # the third message of the day, and two more
    assert event_names() == [
        "chatbot.session_started",
        "chatbot.user_message_submitted",
        "chatbot.response_generated",
        "chatbot.fb_submitted",
        "chatbot.fb_submitted",
        "chatbot.user_message_submitted",
        "chatbot.response_generated",
        "chatbot.limit_reached",
    ]
    session, question, answer, vote, withdrawn, *_, limit = queued()
    visitor = {"session_id": session["visitor"]["session_id"], "user_id": None}
    assert all(event["visitor"] == visitor for event in queued())
    assert all(event["chatbot_id"] == bot.pk and event["source"] == "widget" for event in queued())
    assert (session["conversation_uuid"], session["data"]) == (None, {"origin": SHOP})
    assert question["conversation_uuid"] == answer["conversation_uuid"] == vote["conversation_uuid"]
    assert question["conversation_uuid"] == started["conversation_uuid"]
    assert question["data"] == {"message_id": started["question_id"], "text": "Do you sell shoes?"}
    assert answer["data"]["text"] == done["text"]
    assert answer["data"]["message_id"] == started["message_id"]
    assert answer["data"]["question_id"] == started["question_id"]
    assert (answer["data"]["is_complete"], answer["data"]["model"]) == (True, "gpt-4o-mini")
    assert answer["data"]["usage"]["input_tokens"] > 0
    assert vote["data"] == {"message_id": started["message_id"], "feedback": "up"}
    assert withdrawn["data"]["feedback"] == "none"
    assert limit["data"]["limit"] == "messages_per_day"
    assert limit["data"]["code"] == "rate_limit_exceeded"
    assert limit["data"]["resets_at"] > limit["occurred_at"]


def test_the_payload_is_as_documented(webhook, widget):
    (example,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    example = json.loads(example)
    widget.begin().ask()
    (answer,) = queued(event=EventName.RESPONSE)
    assert answer.keys() == example.keys()
    assert answer["data"].keys() == example["data"].keys()
    assert answer["visitor"].keys() == example["visitor"].keys()
    for event in EventName.values:
        assert f"| `{event}` |" in DOCUMENT


def test_turns_of_the_api_publish_events(webhook, api, bot, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
    question, answer = queued()
    assert (question["source"], question["data"]["text"], answer["data"]["text"]) == ("api", "Hello", "Hi!")


def test_a_failure_of_the_provider_publishes_no_answer(webhook, api, bot, upstream):
    upstream.will_answer({"error": {"message": "no"}}, 400)
    api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert event_names() == ["chatbot.user_message_submitted"]


def test_events_are_redacted_like_the_log(webhook, bot, settings):
    settings.REDACT = ["email"]
    write_turns([turn_for(webhook, bot, question="I am eve@example.com", reply="Hello eve@example.com")])
    assert [event["data"]["text"] for event in queued()] == ["I am [e-mail]", "Hello [e-mail]"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 2),
        ({"is_active": False}, 0),
        ({"events": ["chatbot.response_generated"]}, 1),
        ({"events": ["chatbot.fb_submitted"]}, 0),
        ({"is_bound": True}, 0),  # bound to a chatbot that was deleted: gets no events of others
    ],
)
def test_a_webhook_gets_the_events_that_it_subscribes_to(webhook, api, bot, upstream, change, expected):
    for name, value in change.items():
        setattr(webhook, name, value)
    webhook.save()
    upstream.will_answer(CHAT_COMPLETION)
    api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert WebhookDelivery.objects.count() == expected


def test_a_bound_webhook_gets_events_of_its_chatbots_only(webhook, api, bot, upstream):
    webhook.is_bound = True
    webhook.chatbots.set([bot])
    webhook.save()
    other = Chatbot.objects.create(name="Other", provider="openai", model="gpt-4o-mini")
    for chatbot in (bot, other):
        upstream.will_answer(CHAT_COMPLETION)
        api.post(f"/chat/{chatbot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert {event["chatbot_id"] for event in queued()} == {bot.pk}


def test_each_webhook_gets_its_own_delivery_of_the_same_event(webhook, bot, receiver):
    other = Webhook.objects.create(name="Other", url=f"{receiver.url}/hook", events=["chatbot.response_generated"])
    write_turns([turn_for(webhook, bot, subscribers=[subscriber_of(webhook), subscriber_of(other)])])
    deliveries = WebhookDelivery.objects.filter(event=EventName.RESPONSE)
    assert len({delivery.event_id for delivery in deliveries}) == 1
    assert len({delivery.delivery_id for delivery in deliveries}) == 2


def test_without_a_webhook_a_turn_takes_no_more_queries(receiver, api, bot, upstream):
    def queries() -> list[str]:
        upstream.will_answer(CHAT_COMPLETION)
        with CaptureQueriesContext(connection) as captured:
            api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
        return [query["sql"] for query in captured if "webhook" in query["sql"]]

    start = time.monotonic()
    statements = [query for _ in range(5) for query in queries()]
    # The cached list of webhooks is reloaded after 0.8 s; the turns themselves neither read nor write.
    assert len(statements) <= 1 + (time.monotonic() - start) / 0.8
    assert all(query.startswith("SELECT") for query in statements)


@pytest.mark.django_db(transaction=True)
def test_a_turn_and_its_events_are_stored_together(receiver):
    """Check that an invalid turn publishes no events, and that a turn is stored if its webhook was deleted."""
    webhook = Webhook.objects.create(name="CRM", url=f"{receiver.url}/hook", events=EventName.values)
    bot = Chatbot.objects.create(name="Shop")
    write_turns([turn_for(webhook, bot, question="\ud800")])
    assert not WebhookDelivery.objects.exists()
    turn = turn_for(webhook, bot)
    webhook.delete()
    write_turns([turn])
    assert Conversation.objects.count() == 1
    assert not WebhookDelivery.objects.exists()


def test_events_of_a_deleted_conversation_are_not_sent(webhook, bot, receiver):
    write_turns([turn_for(webhook, bot)])
    Conversation.objects.all().delete()
    run_worker()
    assert (receiver.sent, WebhookDelivery.objects.count()) == ([], 0)


def test_forget_user_deletes_the_persons_deliveries(webhook, api, widget, bot):
    widget.begin().ask()
    Widget(api, bot).begin()  # another visitor
    conversation = Conversation.objects.get()
    assert WebhookDelivery.objects.count() == 4
    call_command("forget_user", "--session", conversation.session_id, "--yes", "--no-vacuum")
    (remaining,) = queued()
    assert remaining["visitor"]["session_id"] not in (None, conversation.session_id)
    assert not MessageCount.objects.filter(subject__contains="address").exists()


def test_a_session_publishes_an_event_only_when_it_starts(webhook, widget):
    widget.begin()
    widget.post("session", token=widget.token)
    assert event_names() == ["chatbot.session_started"]


def test_session_events_are_rate_limited(webhook, widget, monkeypatch):
    monkeypatch.setattr(widget_events, "EVENTS_PER_MINUTE", 3)
    assert [widget.post("session").status_code for _ in range(8)] == [200] * 8
    assert 3 <= len(event_names()) <= 6  # the calls may fall into two minutes


LIMITS = {
    "token_guest_limit": ({"token_guest_limit": 0}, "token_limit_exceeded_guest_logic"),
    "messages_per_minute_per_address": ({"messages_per_minute_per_address": 1}, "rate_limit_exceeded"),
    "messages_per_day": ({"messages_per_day": 1}, "rate_limit_exceeded"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_reached_limit_publishes_one_event_per_subject(webhook, api, widget, bot, limit):
    values, code = LIMITS[limit]
    Chatbot.objects.filter(pk=bot.pk).update(**{"messages_per_day": None} | values)
    one, other = widget.begin(), Widget(api, bot).begin()
    for visitor in (one, other, one, other):
        visitor.ask()
    events = [event["data"] for event in queued(event=EventName.LIMIT_REACHED)]
    assert [(event["limit"], event["code"]) for event in events] == [(limit, code)] * len(events)
    if limit == "token_guest_limit":  # a limit of each visitor
        assert len(events) == 2
    else:  # Both visitors share the address and the day; the next minute publishes its own event.
        assert len(events) == len({event["resets_at"] for event in events})
