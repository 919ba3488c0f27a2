"""Answers that are added for unanswered questions, and who may see and add them."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from chatbots.models import REFUSAL, Chatbot, SettledQuestion
from chatbots.quality.unanswered import digest_of
from tests.support.admin.unanswered_questions import (
    NASTY,
    QUESTION,
    ask,
    embedding_model_is_unknown,
    embeddings_fail,
    log_failed_turn,
    page_of,
    text_of,
    unanswered,
)
from tests.support.upstream import embedding
from vectorstores.models import Document, LocalVector

pytestmark = pytest.mark.django_db


def answer_page(bot, question=""):
    return f"{page_of(bot)}answer/" + (f"?question={digest_of(question)}" if question else "")


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
    assert "The answer was added to shop." in text_of(page)
    assert "The chatbot found your answer." in text_of(page)
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


def embeddings_have_another_dimension(upstream, bot):
    upstream.pages["/v1/embeddings"] = embedding(32)


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
