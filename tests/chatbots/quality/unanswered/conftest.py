"""A chatbot that answers only from a collection."""

import pytest

from chatbots.models import Chatbot
from tests.support.admin.unanswered_questions import SHIPPING


@pytest.fixture
def bot(store):
    store(SHIPPING)
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", enable_vector_store=True, collections=["shop"],
        vector_store_confidence_threshold=40, only_from_sources=True,
    )  # fmt: skip
