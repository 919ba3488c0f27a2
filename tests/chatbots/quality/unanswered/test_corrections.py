"""Answers that are corrected from a conversation, the playground or the list of unanswered questions."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from chatbots.models import REFUSAL, Chatbot, SettledQuestion
from chatbots.quality.unanswered import digest_of
from logs.models import Conversation, Message
from tests.support.admin.golden_questions import completion_with
from tests.support.admin.unanswered_questions import (
    NASTY,
    QUESTION,
    SHIPPING,
    ask,
    log_failed_turn,
    page_of,
    text_of,
    unanswered,
)
from tests.support.upstream import answering
from vectorstores.models import Document, LocalVector

pytestmark = pytest.mark.django_db

COMPLETIONS = "/v1/chat/completions"
ANSWER = "Vouchers from 10 to 100 euros."
SHIPS = "How fast do we ship, within two days?"


def page_to_correct(bot, **query):
    return reverse("admin:chatbots_chatbot_answer_question", args=[bot.pk], query=query)


def correct(client, bot, url=None, **given):
    """Open the page, fill in its form and post it, as a browser does."""
    url = url or page_to_correct(bot, message=last_reply().message_id)
    form = client.get(url).context["form"]
    return client.post(url, {"collection": "shop", "answer": ANSWER, "url": "", **form.initial, **given}, follow=True)


def last_reply() -> Message:
    return Message.objects.filter(role="bot").latest("pk")


def said_by(upstream) -> list[dict]:
    """Return the messages of the last call of the model."""
    return [sent for sent in upstream.sent if sent.path == COMPLETIONS][-1].json["messages"]


# From a conversation to the new reply


def test_a_wrong_answer_is_corrected_and_its_question_asked_again(api, bot, openai, admin_client):
    openai.pages[COMPLETIONS] = answering(completion_with("In two weeks. [1]"))
    assert ask(api, bot, SHIPS)["reply"] == "In two weeks. [1]"
    wrong = last_reply()
    conversation = admin_client.get(reverse("admin:logs_conversation_change", args=[wrong.conversation_id]))
    url = page_to_correct(bot, message=wrong.message_id)
    assert f'href="{url}"' in conversation.text
    page = admin_client.get(url)
    shown = text_of(page)
    assert SHIPS in shown
    assert "In two weeks." in shown
    assert "1 passage from the knowledge" in shown
    shipping = Document.objects.get(title="Shipping")
    assert reverse("admin:vectorstores_document_change", args=[shipping.pk]) in page.text
    openai.pages[COMPLETIONS] = answering(completion_with("In one day. [1]"))
    page = correct(admin_client, bot, url, answer="We ship within one day.")
    shown = text_of(page)
    assert "In two weeks." in shown
    assert "In one day." in shown
    assert "The chatbot found your answer." in shown
    assert "We ship within one day." in said_by(openai)[-1]["content"]
    again = last_reply()
    assert (again.content, again.conversation.source) == ("In one day. [1]", Conversation.Source.PREVIEW)
    assert LocalVector.objects.get(title=SHIPS).text == "We ship within one day."
    assert page.redirect_chain == [(page_to_correct(bot, message=wrong.message_id, reply=again.message_id), 302)]


def test_a_question_within_a_conversation_is_asked_again_with_what_was_said_before(api, bot, openai, admin_client):
    messages = [
        {"role": "user", "content": SHIPS},
        {"role": "assistant", "content": "In two days."},
        {"role": "user", "content": "And ship to Norway?"},
    ]
    first = ask(api, bot, SHIPS)
    call = {"messages": messages, "conversation_uuid": first["conversation_uuid"]}
    assert api.post(f"/chat/{bot.pk}/message", json=call).status_code == 200
    page = correct(admin_client, bot, question="Do you ship to Norway?", answer="We ship to Norway too.")
    assert page.status_code == 200
    asked = said_by(openai)
    assert [message["content"] for message in asked[-3:-1]] == [SHIPS, "Hi!"]
    assert "And ship to Norway?" in asked[-1]["content"]
    assert "We ship to Norway too." in asked[-1]["content"]
    assert LocalVector.objects.get(title="Do you ship to Norway?").text == "We ship to Norway too."


def test_the_question_can_be_asked_once_more(api, bot, openai, admin_client):
    ask(api, bot, SHIPS)
    result = correct(admin_client, bot).redirect_chain[0][0]
    before = Message.objects.count()
    openai.pages[COMPLETIONS] = answering(completion_with("Tomorrow."))
    page = admin_client.post(result, {"again": "1"}, follow=True)
    assert "Tomorrow." in text_of(page)
    assert Message.objects.count() == before + 2
    assert page.context["old"].question == SHIPS


def test_the_page_says_when_the_answer_was_not_found(api, bot, openai, admin_client):
    ask(api, bot, SHIPS)
    page = correct(admin_client, bot, question="Zebra?", answer="Quagga.")
    assert "The chatbot did not find your answer" in text_of(page)


# Replacing


def test_a_later_correction_replaces_the_earlier_one(api, bot, openai, admin_client):
    ask(api, bot, SHIPS)
    url = page_to_correct(bot, message=last_reply().message_id)
    correct(admin_client, bot, url, answer="Wrong.", question="How fast do we ship?")
    page = admin_client.get(url)
    assert "This question was answered before." in text_of(page)
    initial = page.context["form"].initial
    assert (initial["question"], initial["answer"], initial["collection"]) == ("How fast do we ship?", "Wrong.", "shop")
    correct(admin_client, bot, url, answer="Right.", question="How quickly do we ship?")
    answers = Document.objects.filter(origin="Question and answer")
    assert [answer.title for answer in answers] == ["How quickly do we ship?"]
    assert set(LocalVector.objects.values_list("text", flat=True)) == {"Right.", SHIPPING["content"]}


def test_an_answer_that_other_questions_need_stays(api, bot, openai, admin_client):
    for question in ("do you sell hiking boots for children", "do you sell hiking boots for dogs"):
        log_failed_turn(bot, question)
    group = admin_client.get(page_of(bot)).context["page"][0]
    correct(
        admin_client, bot, page_to_correct(bot, question=group.questions[0].digest), question="Boots?", answer="No."
    )
    assert SettledQuestion.objects.count() == 3
    dogs = Message.objects.get(content="do you sell hiking boots for dogs")
    reply = Message.objects.get(conversation=dogs.conversation, role="bot")
    url = page_to_correct(bot, message=reply.message_id)
    assert admin_client.get(url).context["form"].initial["question"] == "Boots?"
    correct(admin_client, bot, url, question="Boots for dogs?", answer="Never.")
    answers = Document.objects.filter(origin="Question and answer")
    assert {answer.title for answer in answers} == {"Boots?", "Boots for dogs?"}


def test_an_answer_that_moves_to_another_collection_is_not_left_in_the_first(api, bot, store, openai, admin_client):
    store(SHIPPING, target="faq")
    Chatbot.objects.update(collections=["shop", "faq"])
    ask(api, bot, SHIPS)
    url = page_to_correct(bot, message=last_reply().message_id)
    correct(admin_client, bot, url)
    correct(admin_client, bot, url, collection="faq")
    (answer,) = Document.objects.filter(origin="Question and answer").select_related("collection")
    assert answer.collection.name == "faq"
    assert LocalVector.objects.get(title=SHIPS).collection == answer.collection


# From the other pages


def test_the_list_links_to_what_was_said_and_found(api, bot, openai, admin_client):
    assert ask(api, bot, QUESTION)["reply"] == REFUSAL
    reply = last_reply()
    expected = page_to_correct(bot, days=90, question=digest_of(QUESTION), message=reply.message_id)
    assert expected.replace("&", "&amp;") in admin_client.get(page_of(bot)).text
    page = admin_client.get(expected)
    assert REFUSAL in text_of(page)
    assert "No passage from the knowledge." in text_of(page)
    page = correct(admin_client, bot, expected)
    assert "The chatbot found your answer." in text_of(page)
    assert unanswered(admin_client, bot) == []


# What can go wrong


def test_a_failing_model_is_shown_and_the_answer_is_stored(api, bot, openai, admin_client):
    ask(api, bot, SHIPS)
    openai.pages[COMPLETIONS] = answering({"error": {"message": f"overloaded {NASTY}"}}, 500)
    page = correct(admin_client, bot)
    assert "The answer was added to shop." in text_of(page)
    assert "overloaded" in text_of(page)
    assert NASTY not in page.text
    assert LocalVector.objects.filter(text=ANSWER).exists()


def test_a_refused_question_leads_to_the_list(api, bot, openai, admin_client):
    ask(api, bot, SHIPS)
    url = page_to_correct(bot, message=last_reply().message_id)
    Chatbot.objects.update(provider="azure", model="")
    page = correct(admin_client, bot, url)
    assert page.redirect_chain == [(f"{page_of(bot)}?days=90", 302)]
    assert "The question was not asked again." in text_of(page)
    assert LocalVector.objects.filter(text=ANSWER).exists()


def test_a_chatbot_in_the_trash_is_not_asked(api, bot, openai, admin_client):
    ask(api, bot, SHIPS)
    url = page_to_correct(bot, message=last_reply().message_id)
    Chatbot.objects.update(status="trash")
    count = Message.objects.count()
    assert correct(admin_client, bot, url).redirect_chain == [(f"{page_of(bot)}?days=90", 302)]
    assert Message.objects.count() == count


@pytest.mark.parametrize("answer", ["", " \u200b", "x" * 50_001])
def test_bad_input_stores_and_asks_nothing(api, bot, openai, admin_client, answer):
    ask(api, bot, SHIPS)
    count = len(openai.sent)
    page = correct(admin_client, bot, answer=answer)
    assert set(page.context["form"].errors) == {"answer"}
    assert "Hi!" in text_of(page)
    assert len(openai.sent) == count
    assert not SettledQuestion.objects.exists()


@pytest.mark.parametrize("message_id", ["nothing", NASTY, "x" * 5000])
def test_an_unknown_message_shows_an_empty_form(bot, openai, admin_client, message_id):
    page = admin_client.get(page_to_correct(bot, message=message_id, reply=message_id))
    assert page.status_code == 200
    assert page.context["old"] is None
    assert NASTY not in page.text


def test_messages_of_other_chatbots_and_of_visitors_are_not_shown(api, bot, openai, admin_client):
    ask(api, bot, SHIPS)
    other = Chatbot.objects.create(name="Other", enable_vector_store=True, collections=["shop"])
    reply = last_reply()
    question = Message.objects.get(role="user")
    for chatbot, message in ((other, reply), (bot, question)):
        page = admin_client.get(page_to_correct(chatbot, message=message.message_id))
        assert page.context["old"] is None
        assert SHIPS not in page.text


def test_what_was_said_and_found_is_escaped(bot, openai, admin_client):
    passage = {
        "provider": NASTY,
        "collection_name": NASTY,
        "result_id": NASTY,
        "title": NASTY,
        "content_preview": NASTY,
    }
    log_failed_turn(bot, f"{NASTY} boots", content=NASTY, passages=[passage])
    page = admin_client.get(page_to_correct(bot, message=last_reply().message_id))
    assert page.status_code == 200
    assert NASTY not in page.text
    assert "&lt;script&gt;" in page.text


# Rights


@pytest.mark.parametrize(
    ("lacking", "status", "is_stored", "is_asked"),
    [
        (None, 302, True, True),
        ("change_chatbot", 302, True, False),
        ("add_document", 403, False, False),
        ("view_conversation", 403, False, False),
        ("view_chatbot", 403, False, False),
    ],
)
def test_rights(api, bot, openai, lacking, status, is_stored, is_asked):
    ask(api, bot, SHIPS)
    reply = last_reply()
    user = User.objects.create_user("somebody", is_staff=True)
    editor = Group.objects.get(name="Editor")
    user.groups.add(editor)
    editor.permissions.remove(*editor.permissions.filter(codename=lacking))
    client = Client()
    client.force_login(user)
    url = page_to_correct(bot, message=reply.message_id)
    assert client.get(url).status_code == (200 if status == 302 else 403)
    count = Message.objects.count()
    sent = {"question": SHIPS, "answer": ANSWER, "collection": "shop"}
    assert client.post(url, sent).status_code == status
    assert LocalVector.objects.filter(text=ANSWER).exists() == is_stored
    assert (Message.objects.count() > count) == is_asked
    if lacking != "view_conversation":
        conversation = client.get(reverse("admin:logs_conversation_change", args=[reply.conversation_id]))
        assert ("Correct this answer" in conversation.text) == is_stored
