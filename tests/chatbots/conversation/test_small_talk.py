"""Greetings, thanks and questions about the chatbot are answered even if only sources may be."""

import pytest

from chatbots.conversation.small_talk import is_small_talk
from chatbots.models import REFUSAL, Chatbot
from tests.support.knowledge.shop import RETURNS


@pytest.fixture
def bot(db):
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="m", enable_vector_store=True, collections=["shop"],
        only_from_sources=True,
    )  # fmt: skip


def ask(api, bot, *messages):
    roles = ["user" if (len(messages) - place) % 2 else "assistant" for place in range(len(messages))]
    body = [{"role": role, "content": content} for role, content in zip(roles, messages, strict=True)]
    return api.post(f"/chat/{bot.pk}/message", json={"messages": body})


@pytest.mark.parametrize(
    "message",
    [
        "Hello",
        "hi there!",
        "Thanks!",
        "THANK YOU \N{SMILING FACE WITH SMILING EYES}",
        "Who are you?",
        "Hi! What can you do?",
        "Guten Tag",
        "gr\u00fc\u00df Gott",
        "Merci beaucoup",
        "\u00bfQui\u00e9n eres?",
        "\u0645\u0631\u062d\u0628\u0627",  # Arabic: hello
        "\u05ea\u05d5\u05d3\u05d4 \u05e8\u05d1\u05d4",  # Hebrew: thank you very much
        "\u4f60\u597d",
        "\u3053\u3093\u306b\u3061\u306f",
    ],
)
def test_small_talk_is_recognized(message):
    assert is_small_talk(message)


@pytest.mark.parametrize(
    "message",
    ["", "?!", "Hello, the price of tea?", "Thanks, and returns?", "hello " * 9, "Hallo Welt", "Hello AB-1234"],
)
def test_questions_are_no_small_talk(message):
    assert not is_small_talk(message)


def test_a_greeting_is_answered_without_a_search(api, bot, openai, store):
    store(RETURNS)
    embedded = len(openai.sent)
    answer = ask(api, bot, "Hello!").json()
    assert answer["reply"] != REFUSAL
    assert "sources" not in answer or answer["sources"] == []
    (call,) = openai.sent[embedded:]
    system, user = call.json["messages"]
    assert "small talk" in system["content"]
    assert user["content"] == "Hello!"


def test_consent_to_an_offer_is_searched(api, bot, openai, store):
    store(RETURNS)
    ask(api, bot, "Can I return shoes?", "Yes, within 45 days. Shall I tell you how?", "ok")
    searched = [sent.json["input"] for sent in openai.sent if sent.path.endswith("/embeddings")][-1]
    assert searched == ["ok", "Can I return shoes?\nShall I tell you how?\nok"]
