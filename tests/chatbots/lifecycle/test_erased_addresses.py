"""Erasure of an e-mail address written by others: in answers' titles, versions, golden runs and the audit log."""

import io

import pytest
from axes.models import AccessAttempt, AccessFailureLog
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.management import CommandError, call_command
from django.urls import reverse

from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun, SettledQuestion
from chatbots.quality.answers import add_answer
from logs.models import Message, Webhook, WebhookDelivery
from logs.webhooks.models import EventName
from tests.support.knowledge.shop import RETURNS
from vectorstores.models import Collection, Document, LocalVector, Upload

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


def forget_user(*arguments):
    out = io.StringIO()
    call_command("forget_user", "--email", EMAIL.lower(), "--yes", "--no-vacuum", *arguments, stdout=out)
    return out.getvalue().splitlines()


def ask(api, bot, question="May she return shoes?"):
    call = {"messages": [{"role": "user", "content": question}]}
    response = api.post(f"/chat/{bot.pk}/message", json=call)
    assert response.status_code == 200, response.text
    return response.json()


def dump_rows(model) -> str:
    return str(list(model.objects.values())).lower()


@pytest.fixture
def answer_document(admin_client, bot):
    """Answer the question without removing the visitor's address, and return the answer's document."""
    page = reverse("admin:chatbots_chatbot_answer_question", args=[bot.pk])
    sent = {"question": QUESTION, "answer": "She may.", "collection": "shop", "questions": ""}
    assert admin_client.post(page, sent).status_code == 302
    return Document.objects.get(source="Question and answer")


def test_answered_questions(api, admin_client, bot, answer_document):
    """The answer is kept and still found. No row contains the address, including the logs of visitors who got it."""
    ask(api, bot)
    upload = Upload.objects.create(
        kind="questions", store="local", target="shop", size=1, document_ids=[answer_document.parent_vector_id]
    )
    assert SLUG in dump_rows(Message)  # in the passages
    assert EMAIL.lower() in dump_rows(Message)
    output = forget_user()
    assert "mentions in questions with an answer: 1" in output
    assert "mentions of the address by others: 3" in output  # also in the preview that asked again
    assert not any("stays" in line for line in output)
    for model in (Document, LocalVector, Message, SettledQuestion, LogEntry, Upload):
        assert SLUG not in dump_rows(model), model
        assert EMAIL.lower() not in dump_rows(model), model
    document = Document.objects.get(pk=answer_document.pk)
    assert document.title == "May [e-mail] return shoes?"
    assert {row.parent_vector_id for row in LocalVector.objects.filter(text="She may.")} == {document.parent_vector_id}
    assert SettledQuestion.objects.get().document_id == document.parent_vector_id
    upload.refresh_from_db()
    assert upload.document_ids == [document.parent_vector_id]
    assert document.parent_vector_id in LogEntry.objects.get().change_message
    ask(api, bot)
    passages = Message.objects.filter(role="bot").last().passages
    assert "May [e-mail] return shoes?" in str(passages)


def test_what_was_searched_for(api, bot):
    """A client may send a conversation that is not in the log, and the search includes what was said before."""
    earlier = {"role": "user", "content": QUESTION}
    call = {"messages": [earlier, {"role": "user", "content": "And boots?"}]}
    assert api.post(f"/chat/{bot.pk}/message", json=call).status_code == 200
    answer = Message.objects.get(role="bot")
    assert answer.searched_for == f"{QUESTION}\nAnd boots?"
    assert "mentions of the address by others: 1" in forget_user()
    answer.refresh_from_db()
    assert answer.searched_for == "May [e-mail] return shoes?\nAnd boots?"


def test_nothing_is_erased_if_a_store_does_not_answer(bot, answer_document, upstream):
    collection = Collection.objects.get(name="shop")
    collection.store = "qdrant"
    collection.save()
    LogEntry.objects.update(object_repr=EMAIL)
    with pytest.raises(CommandError, match="nothing else was erased"):
        forget_user()
    assert LogEntry.objects.get().object_repr == EMAIL


def test_the_sites_own_content_is_kept_and_reported(bot, openai):
    add_answer(bot, "shop", "Whom may I write to?", f"Write to {EMAIL}.")
    Chatbot.objects.filter(pk=bot.pk).update(instructions=f"Refer to {EMAIL}.")
    GoldenQuestion.objects.create(chatbot=bot, question="Whom?", expected_facts=EMAIL)
    output = forget_user()
    assert (
        "The address stays in content of this site. Edit or delete it yourself: "
        "documents: 1, chatbots: 1, golden questions: 1." in output
    )
    assert LocalVector.objects.filter(text=f"Write to {EMAIL}.").exists()
    assert Chatbot.objects.get().instructions == f"Refer to {EMAIL}."


def test_texts_in_other_stores_are_searched_by_their_indexed_words(bot):
    faq = Collection.objects.create(store="qdrant", name="faq")
    Document.objects.create(collection=faq, parent_vector_id="contact", title="Contact")
    LocalVector.objects.create(collection=faq, vector_id="contact", parent_vector_id="contact", text=f"Ask {EMAIL}.")
    assert any("documents: 1" in line for line in forget_user())


def test_old_versions_are_erased_and_the_current_one_is_not(bot):
    bot.instructions = f"Refer to {EMAIL}."
    bot.save()
    assert "mentions in versions of chatbots: 0" in forget_user()
    bot.instructions = "Refer to nobody."
    bot.save()
    assert "mentions in versions of chatbots: 1" in forget_user()
    versions = [version.instructions for version in bot.history.all()]
    assert versions[:2] == ["Refer to nobody.", "Refer to [e-mail]."]


def test_golden_results_and_audit_entries(bot, admin_user):
    settings = {"instructions": f"Refer to {EMAIL}."}
    run = GoldenRun.objects.create(chatbot=bot, settings=settings, saved_settings=settings, state="done")
    source = {"title": QUESTION, "url": "", "score": 1}
    GoldenResult.objects.create(run=run, question="Whom?", answer=f"Ask {EMAIL}.", sources=[source])
    LogEntry.objects.log_actions(admin_user.pk, [bot], CHANGE, [{"changed": {"fields": [f"of {EMAIL}"]}}])
    LogEntry.objects.log_actions(admin_user.pk, [bot], CHANGE, f"As CSV, of the list with q={EMAIL}")
    output = forget_user()
    for line in ("golden results: 1", "golden runs: 1", "recorded changes: 2"):
        assert f"mentions in {line}" in output
    result = GoldenResult.objects.get()
    assert (result.answer, result.sources[0]["title"]) == ("Ask [e-mail].", "May [e-mail] return shoes?")
    run.refresh_from_db()
    assert run.settings == run.saved_settings == {"instructions": "Refer to [e-mail]."}
    lines = [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]
    assert lines == ["Changed of [e-mail].", "As CSV, of the list with q=[e-mail]"]


def test_settings_waiting_to_be_published_are_not_changed(bot):
    settings = {"instructions": f"Refer to {EMAIL}."}
    GoldenRun.objects.create(chatbot=bot, settings=settings, saved_settings=settings, is_before_publishing=True)
    forget_user()
    assert GoldenRun.objects.get().settings == settings


def test_webhook_deliveries_and_sign_ins(bot, admin_user):
    webhook = Webhook.objects.create(name="CRM", url="https://crm.example/x", events=[EventName.LIMIT_REACHED])
    fields = {"webhook": webhook, "event": "x", "event_id": "0" * 32}
    WebhookDelivery.objects.create(**fields, payload=f'{{"visitor": {{"user_id": "{EMAIL}"}}}}')
    WebhookDelivery.objects.create(**fields, payload="{}", response_excerpt=f"Unknown: {EMAIL}")
    other = WebhookDelivery.objects.create(**fields, payload=f'{{"visitor": "x{EMAIL}"}}')
    AccessFailureLog.objects.create(username=EMAIL)
    AccessAttempt.objects.create(username="x", failures_since_start=1, get_data=f"next=/admin/?q={EMAIL}")
    AccessFailureLog.objects.create(username="somebody")
    output = forget_user()
    assert {"webhook deliveries: 2", "sign-ins and attempts: 2"} <= set(output)
    assert list(WebhookDelivery.objects.all()) == [other]
    assert [failure.username for failure in AccessFailureLog.objects.all()] == ["somebody"]
    assert not AccessAttempt.objects.exists()


def test_sign_ins_of_an_existing_account_are_kept(bot, admin_user):
    admin_user.email = EMAIL
    admin_user.save()
    AccessFailureLog.objects.create(username=EMAIL)
    assert "sign-ins and attempts: 0" in forget_user()
    assert AccessFailureLog.objects.exists()


@pytest.mark.parametrize("email", ["jürgen@müller.example", "o'brien@x.example"])
def test_addresses_that_json_escapes(bot, admin_user, email):
    entry = LogEntry.objects.log_actions(
        admin_user.pk, [bot], CHANGE, [{"changed": {"fields": [email]}}], single_object=True
    )
    call_command("forget_user", "--email", email, "--yes", "--no-vacuum", stdout=io.StringIO())
    entry.refresh_from_db()
    assert entry.get_change_message() == "Changed [e-mail]."
