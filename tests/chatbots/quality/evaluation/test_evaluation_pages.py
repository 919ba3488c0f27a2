"""Evaluations in the admin: their form, their table, cancelling, and the decision to publish after one."""

import pytest
from django.urls import reverse

from chatbots.models import Chatbot, GoldenResult, GoldenRun
from chatbots.quality.golden import claim_now
from logs.models import Conversation
from puffer.runtime import LeaseLost
from tests.support.admin.chatbot_pages import act, text_of
from tests.support.admin.golden_questions import form_of, golden, golden_page, run_worker
from tests.support.admin.rows_of_models import NASTY
from tests.support.evaluations import JUDGE, calls_of_judge, evaluation, judging, logged, plays

pytestmark = pytest.mark.django_db

RETURNS, HOURS = "Within how many days may shoes be returned?", "When does the shop open?"
RIGHT, WRONG = "Shoes may be returned within 45 days [1].", "Shoes may be returned within 60 days [1]."
OPEN = "Bring back whatever you purchased for as long as you like [1]."


@pytest.fixture
def asked(openai, shop):
    golden(shop, RETURNS, "45 days")
    plays(openai, RIGHT)
    return shop


def evaluate(client, bot: Chatbot, **fields):
    """Press "Save and evaluate" with the saved golden questions, and return the page that follows."""
    (question,) = bot.golden_questions.all()
    row = {"id": question.pk, "question": question.question, "expected_facts": question.expected_facts}
    form = form_of(bot, row, known=1) | {"evaluate": "1", "sample": "0", "days": "30", "judge": ""} | fields
    return client.post(golden_page(bot), form, follow=True)


def shown(client, bot: Chatbot) -> str:
    return text_of(client.get(golden_page(bot)))


def test_an_evaluation_is_run_by_the_worker_and_shown(admin_client, admin_user, openai, asked):
    conversation = logged(asked, f"May I send {NASTY} back?", "Yes.")
    plays(openai, {RETURNS: RIGHT, f"May I send {NASTY} back?": f"{OPEN} {NASTY}"}, judging(grounded="no"))
    page = evaluate(admin_client, asked, sample="5", judge=f" openai/{JUDGE} ")
    assert "Waiting for a worker." in text_of(page)
    assert openai.sent == []
    run_worker()
    text = shown(admin_client, asked)
    for words in (
        "1 of 2 passed (50 %).", "1 failed, 0 not judged.", f"Judge model: openai/{JUDGE}", "Answered: passed",
        "Grounded: failed", "The judge model: Because.", "Correct: not applicable", "asked by a visitor",
    ):  # fmt: skip
        assert words in text
    page = admin_client.get(golden_page(asked))
    assert NASTY not in page.text
    assert reverse("admin:logs_conversation_change", args=[conversation.pk]) in page.text
    assert all(f'value="{value}"' in page.text for value in (f"openai/{JUDGE}", "5"))  # for the next time
    assert GoldenRun.objects.get().user == admin_user


def test_the_table_shows_what_changed(admin_client, openai, asked):
    evaluate(admin_client, asked)
    run_worker()
    assert "ewly" not in shown(admin_client, asked)
    for reply, words in ((WRONG, "Newly failing: 1."), (RIGHT, "Newly passing: 1.")):
        plays(openai, reply)
        evaluate(admin_client, asked)
        run_worker()
        assert words in shown(admin_client, asked)
    evaluation(asked, "--sample=0")  # the command and the page continue each other's runs
    assert "ewly" not in shown(admin_client, asked)


def test_only_evaluations_are_compared_with_evaluations(admin_client, openai, asked):
    """A plain run passes a reply that cites nothing: it looks for the expected fact alone."""
    plays(openai, "Within 45 days.")
    publish(admin_client, asked)
    run_worker()
    evaluate(admin_client, asked)
    run_worker()
    text = shown(admin_client, asked)
    assert ("cites none of the passages" in text, "ewly" in text, text.count("data-run=")) == (True, False, 2)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sample": "201"}, "less than or equal to 200"),
        ({"sample": ""}, "This field is required"),
        ({"days": "0"}, "greater than or equal to 1"),
        ({"judge": "nobody/x"}, "There is no provider “nobody”"),
        ({"judge": "x" * 221}, "at most 220 characters"),
    ],
)
def test_invalid_forms_are_shown_again(admin_client, openai, asked, fields, words):
    page = evaluate(admin_client, asked, **fields)
    assert (words in text_of(page), GoldenRun.objects.exists()) == (True, False)


def test_without_golden_questions_only_visitors_questions_are_asked(admin_client, openai, shop):
    form = form_of(shop) | {"evaluate": "1", "sample": "3", "days": "30", "judge": ""}
    assert "There are no questions to ask." in text_of(admin_client.post(golden_page(shop), form, follow=True))
    logged(shop, RETURNS, "Within 45 days.")
    plays(openai, RIGHT)
    admin_client.post(golden_page(shop), form)
    run_worker()
    assert [result.has_passed for result in GoldenResult.objects.all()] == [True]


def test_who_may_not_read_the_log_neither_draws_nor_sees_questions_of_visitors(staff, openai, asked):
    logged(asked, "Where is my parcel?", "Here.")
    plays(openai, RIGHT)
    evaluation(asked)
    editor = staff("view", "change")
    page = editor.get(golden_page(asked))
    assert ("Where is my parcel?" in page.text, RETURNS in page.text) == (False, True)
    assert 'name="sample"' not in page.text
    evaluate(editor, asked, sample="5")
    run_worker()
    assert [result.question for result in GoldenResult.objects.all()] == [RETURNS]


def test_a_viewer_neither_evaluates_nor_cancels(staff, openai, asked):
    viewer = staff("view")
    assert 'name="evaluate"' not in viewer.get(golden_page(asked)).text
    assert evaluate(viewer, asked).status_code == 403
    evaluation(asked, "--sample=0")
    assert viewer.post(golden_page(asked), {"cancel": GoldenRun.objects.get().pk}).status_code == 403


def test_a_cancelled_run_ends_and_keeps_its_results(admin_client, openai, asked):
    evaluate(admin_client, asked)
    run = claim_now(GoldenRun.objects.get())
    assert "Cancel the run" in shown(admin_client, asked)
    other = Chatbot.objects.create(name="Other")
    admin_client.post(golden_page(other), {"cancel": run.pk})
    run.extend(30)  # not a run of that chatbot
    text = text_of(admin_client.post(golden_page(asked), {"cancel": run.pk}, follow=True))
    assert "The run is cancelled." in text
    assert "The run failed after 0 of 1 questions. Cancelled." in text
    with pytest.raises(LeaseLost):
        run.extend(30)
    run_worker()
    assert (openai.sent, GoldenRun.objects.get().state) == ([], "dead")
    assert "The run is cancelled." not in text_of(admin_client.post(golden_page(asked), {"cancel": "x"}, follow=True))


def test_a_second_tab_replaces_the_run_of_the_first(admin_client, openai, asked):
    evaluate(admin_client, asked)
    first = claim_now(GoldenRun.objects.get())
    evaluate(admin_client, asked)
    with pytest.raises(LeaseLost):
        first.extend(30)
    run_worker()
    assert (GoldenRun.objects.get().state, len(openai.sent)) == ("done", 2)  # the question's vector and the reply


# Before publishing


def publish(client, bot: Chatbot) -> str:
    """Publish the draft, and return the address of the decision."""
    return act(client, "publish", bot).redirect_chain[-1][0]


def test_a_draft_is_evaluated_before_the_decision(admin_client, openai, asked):
    address = publish(admin_client, asked)
    asked.greeting = "Ahoy"  # by somebody else, meanwhile
    asked.save()
    plays(openai, OPEN, judging(grounded="yes", correct="yes"))
    form = {"decision": "evaluate", "sample": "0", "days": "30", "judge": f"openai/{JUDGE}"}
    page = admin_client.post(address, form, follow=True)
    assert "The golden questions are being asked." in text_of(page)
    assert (openai.sent, GoldenRun.objects.count()) == ([], 1)
    run_worker()
    address = page.redirect_chain[-1][0]
    text = text_of(admin_client.get(address))
    assert "All golden questions passed." in text
    assert "Grounded: passed" in text
    assert len(calls_of_judge(openai)) == 1
    admin_client.post(address, {"decision": "publish"})
    asked.refresh_from_db()
    assert (asked.status, asked.greeting) == ("published", "Ahoy")


def test_a_wrong_judge_does_not_lose_the_decision(admin_client, openai, asked):
    address = publish(admin_client, asked)
    page = admin_client.post(address, {"decision": "evaluate", "sample": "0", "days": "30", "judge": "nobody"})
    assert "There is no provider “nobody”" in text_of(page)
    assert admin_client.get(address).status_code == 200


def test_publishing_alone_calls_no_judge_and_draws_no_sample(admin_client, openai, asked):
    logged(asked, "Where is my parcel?", "Here.")
    evaluate(admin_client, asked, judge=f"openai/{JUDGE}")
    run_worker()
    openai.sent.clear()
    publish(admin_client, asked)
    run_worker()
    assert [sent.json["model"] for sent in openai.sent] == ["emb-1", "gpt-4o-mini"]
    text = shown(admin_client, asked)
    assert ("Last run: " in text, "Last evaluation: " in text) == (True, True)  # the evaluation is kept


def test_deleting_a_conversation_in_the_admin_deletes_its_results(admin_client, openai, asked):
    conversation = logged(asked, "Where is my parcel?", "Here.")
    plays(openai, RIGHT)
    evaluation(asked)
    admin_client.post(reverse("admin:logs_conversation_delete", args=[conversation.pk]), {"post": "yes"})
    assert not Conversation.objects.filter(pk=conversation.pk).exists()
    assert [result.question for result in GoldenResult.objects.all()] == [RETURNS]
