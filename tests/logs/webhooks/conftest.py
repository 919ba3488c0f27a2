"""A chatbot whose events a webhook gets."""

import pytest

from chatbots.models import Chatbot


@pytest.fixture
def bot(db):
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", embed_allowed_domains=["shop.example"],
        messages_per_minute=None, messages_per_day=2,
    )  # fmt: skip
