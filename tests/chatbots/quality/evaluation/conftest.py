"""A shop's chatbot that answers from two documents."""

import pytest

from chatbots.models import Chatbot
from tests.support.knowledge.shop import OPENING, RETURNS


@pytest.fixture(autouse=True)
def golden_questions_job_only(settings):
    settings.WORKER_JOBS = ["chatbots.quality.golden.run_due"]


@pytest.fixture
def shop(db, openai, store):
    store(RETURNS, OPENING)
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", instructions="Sell shoes.", status="draft",
        enable_vector_store=True, collections=["shop"], vector_store_top_k=2, vector_store_confidence_threshold=0,
    )  # fmt: skip
