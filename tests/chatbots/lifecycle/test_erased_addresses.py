"""An e-mail address to be forgotten, where others wrote it: in answers' titles, versions, runs, lines of the audit."""

import io

import pytest
from axes.models import AccessAttempt, AccessFailureLog
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.management import CommandError, call_command
from django.urls import reverse

from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun, SettledQuestion
from chatbots.quality.unanswered import add_answer
from logs.models import Message, Webhook, WebhookDelivery
from logs.webhooks.models import EventName
from tests.support.shop import RETURNS
from vectorstores.models import Collection, Document, LocalVector

pytestmark = pytest.mark.django_db

EMAIL = "Ada@Lovelace.example"
QUESTION = f"May {EMAIL} return shoes?"
SLUG = "ada-lovelace-example"


@pytest.fixture
def bot(bot, store):
    store(RETURNS)
    Chatbot.objects.filter(pk=bot.pk).update(enable_vector_store=True, collections=["shop"])
    bot.refresh_from_db()
    return bot


def forget(*arguments):
    out = io.StringIO()
    call_command("forget_user", "--email", EMAIL.lower(), "--yes", "--no-vacuum", *arguments, stdout=out)
    return out.getvalue().splitlines()


def ask(api, bot, question="May she return shoes?"):
    call = {"messages": [{"role": "user", "content": question}]}
    response = api.post(f"/chat/{bot.pk}/message", json=call)
    assert response.status_code == 200, response.text
    return response.json()


def everything_of(model) -> str:
    return str(list(model.objects.values())).lower()


@pytest.fixture
def answered(admin_client, bot):
    """By somebody who left the visitor's words as they were."""
    page = reverse("admin:chatbots_chatbot_answer_question", args=[bot.pk])
    sent = {"question": QUESTION, "answer": "She may.", "collection": "shop", "questions": ""}
    assert admin_client.post(page, sent).status_code == 302
    return Document.objects.get(source="Question and answer")


def test_a_question_that_got_an_answer(api, admin_client, bot, answered):
    """The answer stays, and is found. Nothing tells whose question it was, nor do the logs of those who got it."""
    ask(api, bot)
    assert SLUG in everything_of(Message)  # among the passages
    assert EMAIL.lower() in everything_of(Message)
    said = forget()
    assert "mentions in questions with an answer: 1" in said
    assert "mentions of the address by others: 1" in said
    assert not any("stays" in line for line in said)
    for model in (Document, LocalVector, Message, SettledQuestion, LogEntry):
        assert SLUG not in everything_of(model), model
        assert EMAIL.lower() not in everything_of(model), model
    document = Document.objects.get(pk=answered.pk)
    assert document.title == "May [e-mail] return shoes?"
    assert {row.parent_vector_id for row in LocalVector.objects.filter(text="She may.")} == {document.parent_vector_id}
    assert SettledQuestion.objects.get().document_id == document.parent_vector_id
    assert document.parent_vector_id in LogEntry.objects.get().change_message
    ask(api, bot)
    passages = Message.objects.filter(role="bot").last().passages
    assert "May [e-mail] return shoes?" in str(passages)


def test_a_store_that_does_not_answer_is_no_half_erasure(bot, answered, upstream):
    collection = Collection.objects.get(name="shop")
    collection.store = "qdrant"
    collection.save()
    LogEntry.objects.update(object_repr=EMAIL)
    with pytest.raises(CommandError, match="nothing else was erased"):
        forget()
    assert LogEntry.objects.get().object_repr == EMAIL


def test_what_the_site_wrote_stays_and_is_named(bot, openai):
    add_answer(bot, "shop", "Whom may I write to?", f"Write to {EMAIL}.")
    Chatbot.objects.filter(pk=bot.pk).update(instructions=f"Refer to {EMAIL}.")
    GoldenQuestion.objects.create(chatbot=bot, question="Whom?", expected_facts=EMAIL)
    said = forget()
    assert (
        "The address stays in content of this site. Edit or delete it yourself: "
        "documents: 1, chatbots: 1, golden questions: 1." in said
    )
    assert LocalVector.objects.filter(text=f"Write to {EMAIL}.").exists()
    assert Chatbot.objects.get().instructions == f"Refer to {EMAIL}."


def test_versions_follow_the_chatbot(bot):
    bot.instructions = f"Refer to {EMAIL}."
    bot.save()
    assert "mentions in versions of chatbots: 0" in forget()
    bot.instructions = "Refer to nobody."
    bot.save()
    assert "mentions in versions of chatbots: 1" in forget()
    versions = [version.instructions for version in bot.history.all()]
    assert versions[:2] == ["Refer to nobody.", "Refer to [e-mail]."]


def test_what_was_noted(bot, admin_user):
    run = GoldenRun.objects.create(chatbot=bot, settings={"instructions": f"Refer to {EMAIL}."}, state="done")
    source = {"title": QUESTION, "url": "", "score": 1}
    GoldenResult.objects.create(run=run, question="Whom?", answer=f"Ask {EMAIL}.", sources=[source])
    LogEntry.objects.log_actions(admin_user.pk, [bot], CHANGE, [{"changed": {"fields": [f"of {EMAIL}"]}}])
    LogEntry.objects.log_actions(admin_user.pk, [bot], CHANGE, f"As CSV, of the list with q={EMAIL}")
    said = forget()
    for line in ("golden results: 1", "golden runs: 1", "recorded changes: 2"):
        assert f"mentions in {line}" in said
    result = GoldenResult.objects.get()
    assert (result.answer, result.sources[0]["title"]) == ("Ask [e-mail].", "May [e-mail] return shoes?")
    assert GoldenRun.objects.get().settings == {"instructions": "Refer to [e-mail]."}
    lines = [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]
    assert lines == ["Changed of [e-mail].", "As CSV, of the list with q=[e-mail]"]


def test_a_draft_that_waits_for_a_decision_stays_whole(bot):
    settings = {"instructions": f"Refer to {EMAIL}."}
    GoldenRun.objects.create(chatbot=bot, settings=settings, is_before_publishing=True)
    forget()
    assert GoldenRun.objects.get().settings == settings


def test_webhooks_and_sign_ins(bot, admin_user):
    webhook = Webhook.objects.create(name="CRM", url="https://crm.example/x", events=[EventName.LIMIT_REACHED])
    told = {"webhook": webhook, "event": "x", "event_id": "0" * 32}
    WebhookDelivery.objects.create(**told, payload=f'{{"visitor": {{"user_id": "{EMAIL}"}}}}')
    WebhookDelivery.objects.create(**told, payload="{}", response_excerpt=f"Unknown: {EMAIL}")
    other = WebhookDelivery.objects.create(**told, payload=f'{{"visitor": "x{EMAIL}"}}')
    AccessFailureLog.objects.create(username=EMAIL)
    AccessAttempt.objects.create(username="x", failures_since_start=1, get_data=f"next=/admin/?q={EMAIL}")
    AccessFailureLog.objects.create(username="somebody")
    said = forget()
    assert {"webhook deliveries: 2", "sign-ins and attempts: 2"} <= set(said)
    assert list(WebhookDelivery.objects.all()) == [other]
    assert [failure.username for failure in AccessFailureLog.objects.all()] == ["somebody"]
    assert not AccessAttempt.objects.exists()


def test_sign_ins_of_an_account_that_stays_stay_too(bot, admin_user):
    admin_user.email = EMAIL
    admin_user.save()
    AccessFailureLog.objects.create(username=EMAIL)
    assert "sign-ins and attempts: 0" in forget()
    assert AccessFailureLog.objects.exists()


@pytest.mark.parametrize("email", ["jürgen@müller.example", "o'brien@x.example"])
def test_addresses_that_json_writes_in_another_way(bot, admin_user, email):
    entry = LogEntry.objects.log_actions(
        admin_user.pk, [bot], CHANGE, [{"changed": {"fields": [email]}}], single_object=True
    )
    call_command("forget_user", "--email", email, "--yes", "--no-vacuum", stdout=io.StringIO())
    entry.refresh_from_db()
    assert entry.get_change_message() == "Changed [e-mail]."
