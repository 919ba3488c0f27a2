"""The page of the golden questions, and copies, exports and imports of them."""

import json

import pytest
from django.contrib.admin.models import LogEntry

from chatbots.lifecycle.serializers import export_chatbots
from chatbots.models import Chatbot, GoldenQuestion
from chatbots.quality.golden import MAX_QUESTIONS
from tests.support.admin.chatbot_pages import act, text_of, upload
from tests.support.admin.golden_questions import form_of, golden, golden_page

pytestmark = pytest.mark.django_db


def test_questions_are_added_changed_and_deleted(admin_client, openai, bot):
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
        ({"question": "One?"}, "Enter an expected fact"),
        ({"question": "One?", "expected_facts": " \n "}, "Enter an expected fact"),
        ({"question": "", "expected_facts": "1"}, "This field is required"),
        ({"question": "x" * 10_001, "expected_facts": "1"}, "at most 10000 characters"),
    ],
)
def test_invalid_questions_are_rejected(admin_client, bot, row, words):
    page = admin_client.post(golden_page(bot), form_of(bot, row) | {"run": "1"})
    assert page.status_code == 200
    assert words in text_of(page)
    assert not GoldenQuestion.objects.exists()


def test_the_number_of_questions_is_limited(admin_client, bot):
    rows = [{"question": f"{number}?", "expected_facts": "1"} for number in range(MAX_QUESTIONS + 1)]
    assert f"at most {MAX_QUESTIONS}" in text_of(admin_client.post(golden_page(bot), form_of(bot, *rows)))
    assert not GoldenQuestion.objects.exists()


def test_a_question_of_another_chatbot_cannot_be_changed(admin_client, bot):
    theirs = golden(Chatbot.objects.create(name="Other"))
    row = {"id": theirs.pk, "question": "Mine", "expected_facts": "1"}
    admin_client.post(golden_page(bot), form_of(bot, row, known=1))
    theirs.refresh_from_db()
    assert theirs.question == "Open?"


def test_a_viewer_cannot_edit_or_run(staff, openai, bot):
    golden(bot)
    viewer = staff("view")
    page = viewer.get(golden_page(bot))
    assert "Open?" in page.text
    assert "golden_questions-0-question" not in page.text
    assert viewer.post(golden_page(bot), form_of(bot) | {"run": "1"}).status_code == 403
    assert not openai.sent


def test_a_copied_chatbot_has_the_same_questions(admin_client, draft):
    act(admin_client, "duplicate", draft)
    copy = Chatbot.objects.get(name="Shop (copy)")
    assert [(question.question, question.expected_facts) for question in copy.golden_questions.all()] == [
        ("Open?", "nine")
    ]
    assert draft.golden_questions.count() == 1


def test_questions_are_exported_and_imported(admin_client, draft):
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
        ([5], "golden_questions: Question 1: It must be an object."),
        ([{"question": "One?"}], "Question 1: Enter an expected fact"),
        ([{"question": 5, "expected_facts": "x"}], "Question 1: question: It must be text."),
        ([{"expected_facts": "x"}], "Question 1: question: This field is required."),
        (
            [{"question": "x", "expected_facts": "x", "is_enabled": 7}],
            "Question 1: is_enabled: It must be true or false.",
        ),
    ],
)
def test_invalid_questions_in_an_import_file(admin_client, questions, words):
    page = upload(admin_client, [{"name": "Good"}, {"name": "Bad", "golden_questions": questions}])
    assert words in text_of(page)
    assert not Chatbot.objects.exists()


def test_a_dry_run_of_an_import_saves_no_question(admin_client):
    question = {"question": "One?", "expected_facts": "1"}
    upload(admin_client, [{"name": "Good", "golden_questions": [question]}], dry_run="on")
    assert not GoldenQuestion.objects.exists()
