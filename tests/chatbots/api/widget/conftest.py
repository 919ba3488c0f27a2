"""A published chatbot with a site, and its widget."""

import pytest

from chatbots.models import Chatbot
from tests.support.providers.answers import CHAT_STREAM
from tests.support.upstream import embedding, streaming
from tests.support.widget.calls import Widget


@pytest.fixture
def bot(db):
    return Chatbot.objects.create(
        name="Shop <b>bot</b>", provider="openai", model="gpt-4o-mini", instructions="Sell shoes: SECRET.",
        embed_allowed_domains=["shop.example", "*.wild.example"],
    )  # fmt: skip


@pytest.fixture
def openai(upstream):
    upstream.pages["/v1/chat/completions"] = streaming(CHAT_STREAM, 0, "end", {})
    upstream.pages["/v1/embeddings"] = embedding()
    return upstream


@pytest.fixture
def widget(api, bot, openai):
    return Widget(api, bot).begin()
