"""A chatbot that answers only from a collection, and its provider."""

import pytest

from chatbots.models import Chatbot
from tests.support.admin.unanswered_questions import SHIPPING
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import answering, embedding


@pytest.fixture
def openai(upstream):
    upstream.pages["/v1/embeddings"] = embedding()
    upstream.pages["/v1/chat/completions"] = answering(CHAT_COMPLETION)
    return upstream


@pytest.fixture
def bot(api, openai):
    call = {"provider": "local", "target_id": "shop", "vectors": [SHIPPING]}
    model = {"embedding_provider": "openai", "embedding_model": "emb-1"}
    assert api.post("/vector-stores/upsert", json={**call, **model}).status_code == 200
    openai.sent.clear()
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", enable_vector_store=True, collections=["shop"],
        vector_store_confidence_threshold=40, only_from_sources=True,
    )  # fmt: skip
