"""Unanswered questions in tests: their pages, what they list, and a turn in the log."""

import re
from datetime import timedelta

from django.utils import timezone

from chatbots.models import REFUSAL
from logs.models import Conversation, Message, new_uuid
from tests.support.upstream import answering
from vectorstores.models import Collection

NASTY = "<script>alert(1)</script>"


SHIPPING = {"id": "shipping", "content": "We ship within two days.", "metadata": {"title": "Shipping"}}


QUESTION = "Which gift vouchers are sold here?"


def ask(api, bot, question):
    answer = api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": question}]})
    assert answer.status_code == 200, answer.text
    return answer.json()


def log_failed_turn(bot, question, *, days_ago=0.0, **answer):
    """Create the log rows of a turn that failed `days_ago` days ago, and return its conversation."""
    at = timezone.now() - timedelta(days=days_ago)
    source = answer.pop("source", "widget")
    conversation = Conversation.objects.create(
        chatbot=bot, identity=new_uuid(), source=source, has_unanswered=True, created_at=at, updated_at=at,
        rating=answer.get("feedback", ""),
    )  # fmt: skip
    Message.objects.create(conversation=conversation, role="user", content=question, created_at=at)
    answer = {"content": REFUSAL, "passages": [], **answer}
    Message.objects.create(conversation=conversation, role="bot", created_at=at, **answer)
    return conversation


def page_of(bot):
    return f"/admin/chatbots/chatbot/{bot.pk}/unanswered/"


def unanswered(client, bot, **query):
    """Return the questions on the page as (question, count), in order."""
    page = client.get(page_of(bot), query)
    assert page.status_code == 200
    return [(group.text, group.count) for group in page.context["page"]]


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text))


def embeddings_fail(upstream, bot):
    upstream.pages["/v1/embeddings"] = answering({"error": {"message": f"out of order {NASTY}"}}, 500)


def embedding_model_is_unknown(upstream, bot):
    Collection.objects.update(embedding_model="")
