"""Which questions count as unanswered."""

import pytest

from chatbots.models import Chatbot
from logs.models import Conversation, Message
from tests.support.admin.unanswered_questions import (
    QUESTION,
    ask,
    log_failed_turn,
    page_of,
    unanswered,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        ({}, ["nothing found", "refusal"]),
        ({"content": "Perhaps."}, ["nothing found"]),
        ({"passages": [{"title": "x"}]}, ["refusal"]),
        ({"content": "Wrong.", "passages": None, "feedback": "down"}, ["thumbs down"]),
        ({"content": "Right.", "passages": None, "feedback": "up"}, None),
        ({"content": "Right.", "passages": [{"title": "x"}]}, None),
        ({"content": "Error: x", "error": "x"}, None),
        ({"source": "preview"}, None),
        ({"content": "Nothing can be looked up."}, None),
        ({"days_ago": 91}, None),
    ],
)
def test_which_turns_count_as_unanswered(bot, admin_client, answer, reasons):
    Chatbot.objects.update(knowledge_unavailable_message="Nothing can be looked up.")
    conversation = log_failed_turn(bot, "Why?", **answer)
    page = admin_client.get(page_of(bot))
    groups = list(page.context["page"])
    assert [[reason for reason, _ in group.reasons] for group in groups] == ([] if reasons is None else [reasons])
    assert (f"/admin/logs/conversation/{conversation.pk}/change/" in page.text) == (reasons is not None)


def test_an_answer_with_a_thumbs_down_is_listed(api, bot, admin_client):
    Chatbot.objects.update(enable_vector_store=False)
    uuid = ask(api, bot, QUESTION)["conversation_uuid"]
    assert unanswered(admin_client, bot) == []
    Message.objects.filter(role="bot").update(feedback="down")
    Conversation.objects.filter(conversation_uuid=uuid).update(rating="down")
    assert unanswered(admin_client, bot) == [(QUESTION, 1)]


def test_the_listed_question_is_the_one_before_the_failed_answer(bot, admin_client):
    conversation = log_failed_turn(bot, "First?")
    for role, content, passages in [("user", "Second?", None), ("bot", "Known.", [{"title": "x"}])]:
        Message.objects.create(conversation=conversation, role=role, content=content, passages=passages)
    assert unanswered(admin_client, bot) == [("First?", 1)]


def test_the_period_limits_the_list(bot, admin_client):
    for days_ago in (1, 20, 60):
        log_failed_turn(bot, f"asked {days_ago}", days_ago=days_ago, passages=None)
    for days, count in [(7, 1), (30, 2), (90, 3), ("x", 3), (100_000, 3)]:
        assert sum(count for _, count in unanswered(admin_client, bot, days=days)) == count, days


def test_the_overview_counts_the_questions_of_each_chatbot(bot, admin_client):
    quiet, busy = (Chatbot.objects.create(name=name) for name in ("Quiet", "Busy"))
    for question in ("One?", "one", "Two?"):
        log_failed_turn(busy, question)
    log_failed_turn(bot, QUESTION)
    page = admin_client.get("/admin/chatbots/chatbot/unanswered/")
    rows = [(row["bot"], row["questions"], row["turns"]) for row in page.context["bots"]]
    assert rows == [(busy, 2, 3), (bot, 1, 1), (quiet, 0, 0)]
    assert page_of(busy) in page.text
    assert "/admin/chatbots/chatbot/unanswered/" in admin_client.get("/admin/").text
