"""Golden questions: what passes, what a run keeps, and the run before a chatbot is published."""

import json
import threading
import time

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from chatbots.exchange import export_chatbots
from chatbots.golden import MAX_QUESTIONS
from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun
from logs.models import Conversation, ModelPrice
from tests.chatbots.test_admin import LIST, NASTY, act, change_page, filled, text_of, upload
from tests.chatbots.test_knowledge import OPENING, RETURNS
from tests.providers_on_loopback import CHAT_COMPLETION, answering

pytestmark = pytest.mark.django_db


def golden_page(bot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_golden_questions", args=[bot.pk])


def saying(text: str) -> dict:
    return CHAT_COMPLETION | {"choices": [CHAT_COMPLETION["choices"][0] | {"message": {"content": text}}]}


def golden(bot: Chatbot, question: str = "Open?", facts: str = "nine", **fields) -> GoldenQuestion:
    return GoldenQuestion.objects.create(chatbot=bot, question=question, expected_facts=facts, **fields)


def form_of(bot: Chatbot, *rows: dict, known: int = 0) -> dict[str, str]:
    """What a browser would send of the page with these questions."""
    sent = {"golden_questions-TOTAL_FORMS": str(len(rows)), "golden_questions-INITIAL_FORMS": str(known)}
    for number, row in enumerate(rows):
        row = {"is_enabled": "on"} | row
        sent |= {f"golden_questions-{number}-{name}": value for name, value in row.items()}
    return sent


def run(client, bot: Chatbot) -> list[GoldenResult]:
    questions = list(bot.golden_questions.all())
    rows = [
        {
            "id": question.pk, "question": question.question, "expected_facts": question.expected_facts,
            "expected_source": question.expected_source, "is_enabled": "on" if question.is_enabled else "",
        }
        for question in questions
    ]  # fmt: skip
    page = client.post(golden_page(bot), form_of(bot, *rows, known=len(rows)) | {"run": "1"}, follow=True)
    assert page.redirect_chain == [(golden_page(bot), 302)]
    return list(GoldenResult.objects.filter(run__chatbot=bot))


# What passes


@pytest.mark.parametrize(
    ("facts", "has_passed"),
    [
        ("from nine to six", True),
        ("FROM  Nine", True),  # upper and lower case, and blanks, are alike
        ("until ten\nto six", True),  # of several lines one is enough
        ("until ten\n\n  \nat eight", False),  # an empty line is none
        ("ｎｉｎｅ", True),
    ],
)
def test_facts(admin_client, openai, bot, facts, has_passed):
    openai.pages["/v1/chat/completions"] = answering(saying("We are open\nfrom nine\nto six."))
    golden(bot, facts=facts)
    (result,) = run(admin_client, bot)
    assert result.has_passed == has_passed
    assert ("does not hold" in result.missing) != has_passed
    assert "We are open" in result.answer


@pytest.mark.parametrize(
    ("source", "has_passed"),
    [
        ("Returns", True),
        (" returns ", True),
        ("https://shop.example/returns/", True),
        ("Opening hours", False),  # it is there, but not among what the model was shown
        ("Return", False),
    ],
)
def test_sources(admin_client, store, bot, source, has_passed):
    store(RETURNS, OPENING)
    Chatbot.objects.filter(pk=bot.pk).update(enable_vector_store=True, collections=["shop"], vector_store_top_k=1)
    golden(bot, "Within how many days may shoes be returned?", facts="", expected_source=source)
    (result,) = run(admin_client, bot)
    assert result.has_passed == has_passed
    assert result.sources[0]["title"] == "Returns"
    page = admin_client.get(golden_page(bot))
    assert ("is not among the sources" in page.text) != has_passed


def test_both_are_wanted_where_both_are_named(admin_client, openai, bot):
    golden(bot, facts="nine", expected_source="Opening hours")
    (result,) = run(admin_client, bot)
    assert result.missing == "The answer does not hold “nine”.\n“Opening hours” is not among the sources."


# A run


def test_what_a_run_keeps_and_shows(admin_client, admin_user, openai, bot):
    ModelPrice.objects.create(provider="openai", model="gpt-4o-mini", input_price=1000, output_price=2000)
    openai.pages["/v1/chat/completions"] = answering(saying(f"At nine. {NASTY}"))
    golden(bot)
    golden(bot, f"And {NASTY}?", "at ten")
    golden(bot, "Not asked", is_enabled=False)
    passed, failed = run(admin_client, bot)
    assert (passed.has_passed, failed.has_passed) == (True, False)
    assert (passed.usage["input_tokens"], passed.usage["output_tokens"]) == (11, 5)
    assert str(passed.cost) == "0.02100000"
    assert passed.model == "gpt-4o-mini"
    assert GoldenRun.objects.get().user == admin_user
    page = admin_client.get(golden_page(bot))
    for words in ("by admin", "passed", "failed", "11 + 5", "$0.021000", " ms", "does not hold “at ten”"):
        assert words in text_of(page)
    assert NASTY not in page.text
    run(admin_client, bot)
    assert (GoldenRun.objects.count(), GoldenResult.objects.count()) == (1, 2)  # only the last is kept


def test_a_run_is_no_visitor(admin_client, openai, bot):
    Chatbot.objects.filter(pk=bot.pk).update(
        messages_per_minute=0, messages_per_day=0, token_guest_limit=0, is_paused=True
    )
    golden(bot)
    golden(bot, "Closed?")
    assert not any(result.error for result in run(admin_client, bot))
    assert [conversation.source for conversation in Conversation.objects.all()] == ["preview", "preview"]


def test_a_question_that_fails_is_no_end_of_the_run(admin_client, openai, bot):
    def behave(connection):
        wrong = connection.received.json["messages"][-1]["content"] == "Fail!"
        answering({"error": {"message": "No more."}} if wrong else saying("nine"), 429 if wrong else 200)(connection)

    openai.pages["/v1/chat/completions"] = behave
    golden(bot, "Fail!")
    golden(bot)
    failed, passed = run(admin_client, bot)
    assert "No more." in failed.error
    assert not failed.has_passed
    assert passed.has_passed
    assert "No more." in admin_client.get(golden_page(bot)).text


def test_two_are_asked_at_a_time(admin_client, openai, bot):
    running, most, lock = [0], [0], threading.Lock()

    def behave(connection):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.1)
        with lock:
            running[0] -= 1
        answering(saying(connection.received.json["messages"][-1]["content"]))(connection)

    openai.pages["/v1/chat/completions"] = behave
    for number in range(6):
        golden(bot, f"number {number}", f"number {number}")
    results = run(admin_client, bot)
    assert most == [2]
    assert [result.answer for result in results] == [f"number {number}" for number in range(6)]  # in order
    assert all(result.has_passed for result in results)


def test_nothing_to_ask(admin_client, openai, bot):
    golden(bot, is_enabled=False)
    assert run(admin_client, bot) == []
    bot.status = "trash"
    bot.save()
    golden(bot)
    assert run(admin_client, bot) == []
    assert not openai.sent


# The page


def test_questions_are_written_changed_and_removed(admin_client, openai, bot):
    page = golden_page(bot)
    assert "golden_questions-0-question" in admin_client.get(page).text
    rows = [{"question": "One?", "expected_facts": "1"}, {"question": "Two?", "expected_source": "two"}, {}]
    assert admin_client.post(page, form_of(bot, *rows)).status_code == 302
    one, two = GoldenQuestion.objects.all()
    assert (one.expected_facts, two.expected_source, one.chatbot) == ("1", "two", bot)
    known = [
        {"id": one.pk, "question": "One!", "expected_facts": "1", "is_enabled": ""},
        {"id": two.pk, "question": "Two?", "expected_source": "two", "DELETE": "on"},
    ]
    assert admin_client.post(page, form_of(bot, *known, known=2)).status_code == 302
    one = GoldenQuestion.objects.get()
    assert (one.question, one.is_enabled) == ("One!", False)
    assert LogEntry.objects.filter(change_message="Changed golden questions.").count() == 2
    assert not openai.sent


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "One?"}, "Say what is expected"),
        ({"question": "One?", "expected_facts": " \n "}, "Say what is expected"),
        ({"question": "", "expected_facts": "1"}, "This field is required"),
        ({"question": "x" * 10_001, "expected_facts": "1"}, "at most 10000 characters"),
    ],
)
def test_questions_that_are_none(admin_client, bot, row, words):
    page = admin_client.post(golden_page(bot), form_of(bot, row) | {"run": "1"})
    assert page.status_code == 200
    assert words in text_of(page)
    assert not GoldenQuestion.objects.exists()


def test_there_is_an_end_to_how_many(admin_client, bot):
    rows = [{"question": f"{number}?", "expected_facts": "1"} for number in range(MAX_QUESTIONS + 1)]
    assert f"at most {MAX_QUESTIONS}" in text_of(admin_client.post(golden_page(bot), form_of(bot, *rows)))
    assert not GoldenQuestion.objects.exists()


def test_no_question_of_another_chatbot(admin_client, bot):
    theirs = golden(Chatbot.objects.create(name="Other"))
    row = {"id": theirs.pk, "question": "Mine", "expected_facts": "1"}
    admin_client.post(golden_page(bot), form_of(bot, row, known=1))
    theirs.refresh_from_db()
    assert theirs.question == "Open?"


def test_who_may(staff, openai, bot):
    golden(bot)
    viewer = staff("view")
    page = viewer.get(golden_page(bot))
    assert "Open?" in page.text
    assert "golden_questions-0-question" not in page.text
    assert viewer.post(golden_page(bot), form_of(bot) | {"run": "1"}).status_code == 403
    assert not openai.sent


# Publishing


@pytest.fixture
def draft(bot):
    bot.status = "draft"
    bot.save()
    golden(bot)
    return bot


@pytest.mark.parametrize(("answer", "button"), [("At nine.", "Publish"), ("At ten.", "Publish anyway")])
def test_a_draft_is_asked_before_it_is_published(admin_client, openai, draft, answer, button):
    openai.pages["/v1/chat/completions"] = answering(saying(answer))
    data = filled(admin_client.get(change_page(draft))) | {
        "status": "published", "instructions": "Sell\r\nhats.", "footer_text": NASTY, "_continue": "1",
    }  # fmt: skip
    page = admin_client.post(change_page(draft), data)
    assert page.status_code == 200
    assert f" {button} </button>" in text_of(page)
    assert openai.sent[-1].json["messages"][0]["content"] == "Sell\nhats."  # what would be published
    assert NASTY not in page.text
    draft.refresh_from_db()
    assert (draft.status, draft.instructions) == ("draft", "Sell shoes.")

    again = dict(page.context["sent"])
    assert admin_client.post(change_page(draft), again | {page.context["checked"]: "1"}).status_code == 302
    draft.refresh_from_db()
    assert (draft.status, draft.instructions, draft.footer_text) == ("published", "Sell\r\nhats.", NASTY)
    assert len(openai.sent) == 1


def test_the_settings_can_be_kept_as_a_draft(admin_client, openai, draft):
    data = filled(admin_client.get(change_page(draft))) | {"status": "published", "temperature": "0.2"}
    sent = admin_client.post(change_page(draft), data).context["sent"]
    assert admin_client.post(change_page(draft), dict(sent) | {"status": "draft"}).status_code == 302
    draft.refresh_from_db()
    assert (draft.status, draft.temperature) == ("draft", 0.2)


@pytest.mark.parametrize(
    ("status", "sent", "asked"),
    [
        ("draft", {"status": "draft"}, False),
        ("published", {"status": "published"}, False),
        ("published", {"status": "draft"}, False),
        ("trash", {"status": "published"}, True),
        ("draft", {"status": "published", "temperature": "9"}, False),  # the form comes back with its error
    ],
)
def test_when_the_questions_are_asked(admin_client, openai, draft, status, sent, asked):
    Chatbot.objects.filter(pk=draft.pk).update(status=status)
    admin_client.post(change_page(draft), filled(admin_client.get(change_page(draft))) | sent)
    assert bool(openai.sent) == asked


def test_without_enabled_questions_nothing_is_asked(admin_client, openai, draft):
    GoldenQuestion.objects.update(is_enabled=False)
    data = filled(admin_client.get(change_page(draft))) | {"status": "published"}
    assert admin_client.post(change_page(draft), data).status_code == 302
    draft.refresh_from_db()
    assert (draft.status, openai.sent) == ("published", [])


def test_several_are_published(admin_client, openai, draft):
    other = Chatbot.objects.create(name="Other", status="draft")
    third = Chatbot.objects.create(name="Third", provider="openai", model="m", status="draft")
    golden(third, facts="hi")
    page = act(admin_client, "publish", draft, other, third)
    assert [run.chatbot.name for run in page.context["runs"]] == ["Shop", "Third"]
    assert "Publish anyway" in page.text  # the first has failed
    assert set(Chatbot.objects.values_list("status", flat=True)) == {"draft"}
    answer = {"action": "publish", "_selected_action": [draft.pk, other.pk, third.pk], page.context["checked"]: "1"}
    assert [(name, value) for name, value in page.context["sent"] if name == "_selected_action"] == [
        ("_selected_action", str(bot.pk)) for bot in (draft, other, third)
    ]
    admin_client.post(LIST, answer)
    assert set(Chatbot.objects.values_list("status", flat=True)) == {"published"}
    assert len(openai.sent) == 2


def test_somebody_who_may_only_look_starts_no_run(staff, openai, draft):
    client = staff("view")
    assert client.post(change_page(draft), {"name": "Shop", "status": "published"}).status_code == 403
    act(client, "publish", draft)
    assert not openai.sent


# With the chatbot


def test_a_copy_has_them_too(admin_client, draft):
    act(admin_client, "duplicate", draft)
    copy = Chatbot.objects.get(name="Shop (copy)")
    assert [(question.question, question.expected_facts) for question in copy.golden_questions.all()] == [
        ("Open?", "nine")
    ]
    assert draft.golden_questions.count() == 1


def test_they_are_exported_and_imported(admin_client, draft):
    golden(draft, "Where?", "", expected_source="Map", is_enabled=False)
    other = Chatbot.objects.create(name="Without")
    exported = json.loads(export_chatbots([draft, other]))
    assert exported[0]["golden_questions"] == [
        {"question": "Open?", "expected_facts": "nine", "expected_source": "", "is_enabled": True},
        {"question": "Where?", "expected_facts": "", "expected_source": "Map", "is_enabled": False},
    ]
    assert "golden_questions" not in exported[1]
    page = upload(admin_client, exported)
    assert "Ignored" not in text_of(page)
    added = Chatbot.objects.exclude(pk__in=[draft.pk, other.pk])
    assert json.loads(export_chatbots(added))[0]["golden_questions"] == exported[0]["golden_questions"]
    assert GoldenQuestion.objects.count() == 4


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ({}, "golden_questions: It must be a list of objects."),
        ([5], "golden_questions: It must be a list of objects."),
        ([{"question": "One?"}], "Question 1: Say what is expected"),
        ([{"question": 5, "expected_facts": "x"}], "Question 1: It must be a text."),
        ([{"expected_facts": "x"}], "Question 1: This field cannot be blank."),
        ([{"question": "x", "expected_facts": "x", "is_enabled": 7}], "Question 1: It must be true or false."),
    ],
)
def test_what_is_refused_of_a_file(admin_client, questions, words):
    page = upload(admin_client, [{"name": "Good"}, {"name": "Bad", "golden_questions": questions}])
    assert words in text_of(page)
    assert not Chatbot.objects.exists()


def test_a_check_of_a_file_saves_no_question(admin_client):
    question = {"question": "One?", "expected_facts": "1"}
    upload(admin_client, [{"name": "Good", "golden_questions": [question]}], dry_run="on")
    assert not GoldenQuestion.objects.exists()
