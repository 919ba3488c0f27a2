"""How unanswered questions are grouped."""

from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from chatbots.models import Chatbot, QuestionEmbedding
from chatbots.quality.unanswered import KEPT_DAYS, MAX_QUESTIONS, digest_of, group_similar
from tests.support.admin.unanswered_questions import (
    NASTY,
    embedding_model_is_unknown,
    embeddings_fail,
    log_failed_turn,
    page_of,
    text_of,
    unanswered,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("vectors", "groups"),
    [
        ([], []),
        ([[1, 0]], [[0]]),
        ([[1, 0], [0, 1]], [[0], [1]]),
        ([[1, 0], [7, 1], [0, 3], [1, 9]], [[0, 1], [2, 3]]),
        ([[1, 0], [1, 1], [3, 2]], [[0], [1, 2]]),  # the third is above the threshold for both, closer to the second
        ([[1, 0], None, [2, 0], None], [[0, 2], [1], [3]]),
        ([[1, 0], [0, 0], [0, 0]], [[0], [1], [2]]),
        ([[1, 0], [1, 0, 0], [1, 0]], [[0, 2], [1]]),  # the second has another dimension
    ],
)
def test_similar_vectors_are_grouped(vectors, groups):
    arrays = [None if vector is None else np.asarray(vector, np.float32) for vector in vectors]
    assert sorted(group_similar(arrays, 0.8)) == sorted(groups)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Where is it?", " where  IS it ", True),
        ("¿Dónde está?", "donde esta", True),
        ("Was kostet das?", "was kostet das!!!", True),
        ("Where is it?", "Where is she?", False),
        ("किताब", "कताब", False),
        ("C++", "C", False),
        ("\ud800", "?", False),
    ],
)
def test_digests_ignore_case_accents_and_punctuation(one, other, same):
    assert (digest_of(one) == digest_of(other)) == same


def test_a_question_is_embedded_once(bot, openai, admin_client):
    for question in (
        "do you sell boots for children",
        "do you sell boots for dogs",
        "Do you sell boots for dogs?",
        "hours",
    ):
        log_failed_turn(bot, question)
    expected = [("Do you sell boots for dogs?", 3), ("hours", 1)]
    assert unanswered(admin_client, bot) == expected
    (call,) = openai.sent
    assert len(call.json["input"]) == 3
    assert unanswered(admin_client, bot) == expected
    assert len(openai.sent) == 1
    log_failed_turn(bot, "opening")
    unanswered(admin_client, bot)
    assert openai.sent[-1].json["input"] == ["opening"]


def test_unused_embeddings_are_deleted(bot, admin_client):
    log_failed_turn(bot, "one")
    log_failed_turn(bot, "two")
    QuestionEmbedding.objects.create(provider="openai", model="emb-1", digest="old", values=b"")
    QuestionEmbedding.objects.update(created_at=timezone.now() - timedelta(days=KEPT_DAYS + 1))
    unanswered(admin_client, bot)
    assert set(QuestionEmbedding.objects.values_list("digest", flat=True)) == {digest_of("one"), digest_of("two")}


@pytest.mark.parametrize("fault", [embeddings_fail, embedding_model_is_unknown])
def test_without_embeddings_questions_are_compared_by_their_text(bot, openai, admin_client, fault):
    for question in ("Boots for dogs?", "boots for dogs", "boots for cats"):
        log_failed_turn(bot, question)
    fault(openai, bot)
    page = admin_client.get(page_of(bot))
    assert [(group.text, group.count) for group in page.context["page"]] == [
        ("boots for dogs", 2),
        ("boots for cats", 1),
    ]
    assert "Not all questions could be grouped" in text_of(page)
    assert NASTY not in page.text


def test_a_chatbot_without_knowledge_embeds_nothing(bot, openai, admin_client):
    Chatbot.objects.update(enable_vector_store=False)
    log_failed_turn(bot, "boots for dogs")
    log_failed_turn(bot, "boots for cats")
    page = admin_client.get(page_of(bot))
    assert len(page.context["page"]) == 2
    assert "Not all questions" not in text_of(page)
    assert not openai.sent


def test_only_the_newest_questions_are_compared(bot, openai, admin_client):
    for number in range(MAX_QUESTIONS + 5):
        log_failed_turn(bot, f"w{number}", passages=None)
    page = admin_client.get(page_of(bot))
    assert sum(len(group.questions) for group in page.context["page"].paginator.object_list) == MAX_QUESTIONS
    assert sum(len(call.json["input"]) for call in openai.sent) == MAX_QUESTIONS
    assert len(page.context["page"]) == 20
    assert "p=2" in page.text
    assert admin_client.get(page_of(bot), {"p": "x"}).status_code == 200
