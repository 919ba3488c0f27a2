"""Unanswered questions: which ones are listed, how they are grouped, and how an answer is added to the knowledge."""

import re
from datetime import timedelta

import numpy as np
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from chatbots.models import REFUSAL, Chatbot, QuestionEmbedding, SettledQuestion
from chatbots.quality.unanswered import KEPT_DAYS, MAX_QUESTIONS, digest_of, group_similar
from logs.models import Conversation, Message, new_uuid
from tests.support.providers import CHAT_COMPLETION
from tests.support.upstream import answering, embedding
from vectorstores.models import Collection, Document, LocalVector

pytestmark = pytest.mark.django_db

NASTY = "<script>alert(1)</script>"
SHIPPING = {"id": "shipping", "content": "We ship within two days.", "metadata": {"title": "Shipping"}}
QUESTION = "Which gift vouchers are sold here?"


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


def answer_page(bot, question=""):
    return f"{page_of(bot)}answer/" + (f"?question={digest_of(question)}" if question else "")


def unanswered(client, bot, **query):
    """Return the questions on the page as (question, count), in order."""
    page = client.get(page_of(bot), query)
    assert page.status_code == 200
    return [(group.text, group.count) for group in page.context["page"]]


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text))


def form_data(client, bot, **given):
    """Return the form data that a browser posts to answer QUESTION."""
    form = client.get(answer_page(bot, QUESTION)).context["form"]
    return {**form.initial, "collection": "shop", "answer": "Vouchers from 10 to 100 euros.", "url": "", **given}


# Adding an answer


def test_an_answer_to_an_unanswered_question_is_found_next_time(api, bot, openai, admin_client):
    assert ask(api, bot, QUESTION)["reply"] == REFUSAL
    assert unanswered(admin_client, bot) == [(QUESTION, 1)]
    url = "https://shop.example/vouchers"
    sent = form_data(admin_client, bot, url=url)
    page = admin_client.post(answer_page(bot), sent, follow=True)
    assert page.redirect_chain == [(f"{page_of(bot)}?days=90", 302)]
    assert "The answer was added to shop." in text_of(page)
    assert unanswered(admin_client, bot) == []
    again = ask(api, bot, QUESTION)
    assert again["reply"] == "Hi!"
    assert [(source["title"], source["url"]) for source in again["sources"]] == [(QUESTION, url)]
    assert "Vouchers from 10 to 100 euros." in openai.sent[-1].json["messages"][-1]["content"]
    assert unanswered(admin_client, bot) == []
    document = Document.objects.get(title=QUESTION)
    settled = SettledQuestion.objects.get()
    assert settled.document_id == document.parent_vector_id
    assert settled.user.get_username() == "admin"
    assert LogEntry.objects.filter(change_message__contains=document.parent_vector_id, object_id=str(bot.pk)).exists()


def test_answering_the_same_question_again_replaces_its_answer(api, bot, admin_client):
    for answer in ("Old.", "New."):
        admin_client.post(answer_page(bot), {"question": f" {QUESTION}\n", "answer": answer, "collection": "shop"})
    assert Document.objects.filter(title=QUESTION).count() == 1
    assert LocalVector.objects.get(title=QUESTION).text == "New."


def test_a_question_that_fails_again_is_listed_if_answered_but_not_if_dismissed(bot, admin_client):
    for number, outcome in enumerate(["answered", "dismissed"]):
        log_failed_turn(bot, f"{outcome} {number}", days_ago=2)
        SettledQuestion.objects.create(
            chatbot=bot, digest=digest_of(f"{outcome} {number}"), settled_at=timezone.now() - timedelta(days=1),
            document_id="an-answer" if outcome == "answered" else "",
        )  # fmt: skip
    assert unanswered(admin_client, bot) == []
    log_failed_turn(bot, "answered 0")
    log_failed_turn(bot, "dismissed 1")
    assert unanswered(admin_client, bot) == [("answered 0", 1)]


def test_dismissing_a_question_removes_its_whole_group(bot, admin_client):
    log_failed_turn(bot, "do you sell hiking boots for children")
    log_failed_turn(bot, "do you sell hiking boots for dogs")
    log_failed_turn(bot, "opening hours")
    group = admin_client.get(page_of(bot)).context["page"][0]
    assert group.count == 2
    page = admin_client.post(page_of(bot), {"questions": group.digests}, follow=True)
    assert "Dismissed" in text_of(page)
    assert unanswered(admin_client, bot) == [("opening hours", 1)]
    assert not Document.objects.exclude(parent_vector_id="shipping").exists()


@pytest.mark.parametrize("questions", ["", "x", "0" * 63, f"{'0' * 64},", "'; --"])
def test_an_invalid_digest_dismisses_nothing(bot, admin_client, questions):
    assert admin_client.post(page_of(bot), {"questions": questions}).status_code == 200
    assert not SettledQuestion.objects.exists()


def test_a_question_is_dismissed_for_one_chatbot_only(bot, admin_client):
    other = Chatbot.objects.create(name="Other")
    for chatbot in (bot, other):
        log_failed_turn(chatbot, QUESTION)
    admin_client.post(page_of(bot), {"questions": digest_of(QUESTION)})
    assert unanswered(admin_client, bot) == []
    assert unanswered(admin_client, other) == [(QUESTION, 1)]


# When storing fails


def embeddings_fail(upstream, bot):
    upstream.pages["/v1/embeddings"] = answering({"error": {"message": f"out of order {NASTY}"}}, 500)


def embeddings_have_another_dimension(upstream, bot):
    upstream.pages["/v1/embeddings"] = embedding(32)


def embedding_model_is_unknown(upstream, bot):
    Collection.objects.update(embedding_model="")


@pytest.mark.parametrize("fault", [embeddings_fail, embeddings_have_another_dimension, embedding_model_is_unknown])
def test_an_answer_that_cannot_be_stored_changes_nothing(bot, openai, admin_client, fault):
    log_failed_turn(bot, QUESTION)
    sent = form_data(admin_client, bot)
    before = list(LocalVector.objects.values_list("pk", flat=True))
    fault(openai, bot)
    page = admin_client.post(answer_page(bot), sent)
    assert page.status_code == 200
    assert "The answer was not stored" in text_of(page)
    assert sent["answer"] in page.text
    assert NASTY not in page.text
    assert list(LocalVector.objects.values_list("pk", flat=True)) == before
    assert not Document.objects.filter(title=QUESTION, status="stored").exists()
    assert not SettledQuestion.objects.exists()
    assert unanswered(admin_client, bot) == [(QUESTION, 1)]


@pytest.mark.parametrize(
    "wrong",
    [{"answer": " "}, {"question": ""}, {"url": "javascript:alert(1)"}, {"collection": "another"}, {"questions": "x"}],
)
def test_an_invalid_form_stores_nothing(bot, openai, admin_client, wrong):
    log_failed_turn(bot, QUESTION)
    page = admin_client.post(answer_page(bot), form_data(admin_client, bot, **wrong))
    assert page.status_code == 200
    assert set(page.context["form"].errors) == set(wrong)
    assert not openai.sent
    assert not SettledQuestion.objects.exists()


def test_a_chatbot_without_knowledge_has_no_answer_form(bot, admin_client):
    Chatbot.objects.update(enable_vector_store=False)
    page = admin_client.get(answer_page(bot))
    assert "uses no knowledge" in text_of(page)
    assert 'name="answer"' not in page.text


# Which questions


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


# Grouping


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


# Escaping and permissions


def test_visitor_text_is_escaped(bot, admin_client):
    Chatbot.objects.update(name=NASTY)
    for question in (f"{NASTY} boots for dogs", f"{NASTY} boots for cats"):
        log_failed_turn(bot, question, content=NASTY)
    question = f"{NASTY} boots for cats"
    for url in (page_of(bot), answer_page(bot, question), "/admin/chatbots/chatbot/unanswered/"):
        page = admin_client.get(url)
        assert page.status_code == 200
        assert NASTY not in page.text
        assert "&lt;script&gt;" in page.text


@pytest.mark.parametrize(
    ("role", "may_see", "may_answer"), [("Owner", 1, 1), ("Editor", 1, 1), ("Viewer", 1, 0), (None, 0, 0)]
)
def test_permissions_of_each_role(bot, openai, role, may_see, may_answer):
    user = User.objects.create_user("somebody", is_staff=True)
    if role:
        user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    log_failed_turn(bot, QUESTION)
    sent = {"question": QUESTION, "answer": "Yes.", "collection": "shop", "questions": digest_of(QUESTION)}
    page = client.get(page_of(bot))
    assert page.status_code == (200 if may_see else 403)
    assert ("Add an answer" in page.text) == ("Dismiss" in page.text) == bool(may_answer)
    assert client.get("/admin/chatbots/chatbot/unanswered/").status_code == (200 if may_see else 403)
    assert client.get(answer_page(bot)).status_code == (200 if may_answer else 403)
    for url in (page_of(bot), answer_page(bot)):
        assert client.post(url, sent).status_code == (302 if may_answer else 403)
    assert Document.objects.filter(title=QUESTION).exists() == bool(may_answer)
    assert SettledQuestion.objects.exists() == bool(may_answer)


def test_without_permission_to_view_conversations_no_question_is_shown(bot):
    user = User.objects.create_user("somebody", is_staff=True)
    user.groups.add(Group.objects.get(name="Editor"))
    user.groups.get().permissions.remove(*user.groups.get().permissions.filter(codename="view_conversation"))
    client = Client()
    client.force_login(user)
    urls = [page_of(bot), answer_page(bot), "/admin/chatbots/chatbot/unanswered/"]
    assert [client.get(url).status_code for url in urls] == [403, 403, 403]
