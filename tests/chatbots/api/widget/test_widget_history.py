"""Consent, and what visitors read of their conversations."""

import time
from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from chatbots.guards import leftovers
from chatbots.models import Consent
from logs.models import Conversation, Message
from tests.support.upstream import answering
from tests.support.widget.calls import Widget
from tests.support.widget.visitors import change


def test_chatting_requires_consent(widget, openai, bot):
    change(bot, enable_consent_compliance=True, consent_message="We keep what you write.")
    assert widget.post("session", token=widget.token).json()["consent_required"] is True
    assert widget.post("stream", message="Hi").json()["code"] == "consent_required"
    assert not openai.sent
    agreed = widget.post("consent").json()
    assert agreed["consent_required"] is False
    widget.token = agreed["token"]
    assert widget.ask()[-1][0] == "done"
    assert Consent.objects.count() == 1
    assert widget.post("session", token=widget.token).json()["consent_required"] is False
    change(bot, consent_message="We keep what you write for ten years.")
    assert widget.post("stream", message="Hi").json()["code"] == "consent_required"


def test_a_chatbot_without_consent_keeps_none(widget):
    assert widget.post("consent").status_code == 400
    assert widget.post("consent").json()["code"] == "consent_not_required"
    assert not Consent.objects.exists()


def test_a_network_leaves_few_consents(api, bot, openai):
    change(bot, enable_consent_compliance=True)
    answers = [Widget(api, bot).begin().post("consent") for _ in range(35)]
    assert Consent.objects.count() in (30, 35)  # the latter where a minute ended in between
    refused = [answer for answer in answers if answer.status_code != 200]
    assert all((answer.status_code, answer.json()["code"]) == (429, "rate_limit_exceeded") for answer in refused)


def test_a_consent_that_no_question_followed_is_deleted_after_a_week(api, bot, openai):
    change(bot, enable_consent_compliance=True)
    asked, silent, new = (Widget(api, bot).begin() for _ in range(3))
    for widget in (asked, silent, new):
        widget.token = widget.post("consent").json()["token"]
    asked.ask()
    of_new = Consent.objects.latest("pk")
    Consent.objects.exclude(pk=of_new.pk).update(given_at=timezone.now() - timedelta(days=8))
    leftovers._cleaning.__init__(every_seconds=3600)
    while leftovers.run_due():
        pass
    assert [consent.pk for consent in Consent.objects.order_by("pk")] == [of_new.pk - 2, of_new.pk]


def test_reading_the_history_again_renders_nothing_again(widget):
    """Rendering takes milliseconds for each reply, and anybody with a long conversation can ask again and again."""
    uuid = widget.ask()[0][1]["conversation_uuid"]
    conversation = Conversation.objects.get()
    reply = "\n".join(f"* **{number}** [a](https://shop.example/{number}) `b`" for number in range(300))
    Message.objects.bulk_create(
        Message(conversation=conversation, role=Message.Role.BOT, content=f"{number} {reply}", message_id=f"m{number}")
        for number in range(100)
    )

    def seconds():
        started = time.process_time()
        assert widget.get("history", conversation_uuid=uuid).status_code == 200
        return time.process_time() - started

    first = seconds()
    assert min(seconds() for _ in range(3)) < first / 3


@pytest.mark.parametrize("name", ["history", "conversations"])
def test_reads_are_limited(widget, name):
    statuses = Counter(widget.get(name, conversation_uuid="x").status_code for _ in range(130))
    assert 10 <= statuses[429] <= 70
    last = next(answer for _ in range(130) if (answer := widget.get(name, conversation_uuid="x")).status_code == 429)
    assert (last.json()["code"], 1 <= int(last.headers["retry-after"]) <= 60) == ("rate_limit_exceeded", True)


def test_visitors_can_read_only_their_own_conversations(widget, api, bot):
    first = widget.ask("Do you really sell all the shoes?")[0][1]["conversation_uuid"]
    second = widget.ask("Hi")[0][1]["conversation_uuid"]
    known = widget.get("conversations").json()["conversations"]
    assert [(row["conversation_uuid"], row["title"], row["message_count"]) for row in known] == [
        (second, "Hi", 2),
        (first, "Do you really sell all…", 2),
    ]
    messages = widget.get("history", conversation_uuid=first).json()["messages"]
    assert [(message["role"], message["failed"], message["feedback"]) for message in messages] == [
        ("user", False, "none"),
        ("bot", False, "none"),
    ]
    assert messages[1]["html"].startswith("<p>")
    stranger = Widget(api, bot).begin()
    assert stranger.get("conversations").json() == {"conversations": []}
    for response in (stranger.get("history", conversation_uuid=first),
                     stranger.post("stream", message="Hi", conversation_uuid=first)):  # fmt: skip
        assert (response.status_code, response.json()["code"]) == (404, "conversation_not_found")


def test_visitors_cannot_read_conversations_of_the_api(widget, api, bot, openai):
    openai.pages["/v1/chat/completions"] = answering({"choices": [{"message": {"content": "Hi!"}}]})
    of_api = api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hi"}]}).json()
    assert widget.get("history", conversation_uuid=of_api["conversation_uuid"]).status_code == 404


def test_feedback_can_be_given_changed_and_withdrawn(widget, api, bot):
    start = widget.ask()[0][1]
    for vote, stored in (("up", "up"), ("down", "down"), ("none", "")):
        ids = {"conversation_uuid": start["conversation_uuid"], "message_id": start["message_id"]}
        assert widget.post("feedback", **ids, feedback=vote).json()["feedback"] == vote
        assert Message.objects.get(role="bot").feedback == stored
    assert widget.post("feedback", **ids, feedback="great").json()["code"] == "rest_invalid_param"
    for changed in ({"message_id": start["question_id"]}, {"message_id": "x"}, {"conversation_uuid": "x"}):
        assert widget.post("feedback", **(ids | changed), feedback="up").json()["code"] == "message_not_found"
    stranger = Widget(api, bot).begin()
    assert stranger.post("feedback", **ids, feedback="up").status_code == 404
