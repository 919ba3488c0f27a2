"""Visitors' questions in an evaluation: which are drawn, how they are asked, and what is stored of them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from chatbots.models import Chatbot, GoldenResult
from chatbots.quality.evaluation import Evaluation
from chatbots.quality.golden import carry_out, claim_now, queue
from chatbots.quality.unanswered import open_questions
from logs.conversations.retention import prune
from logs.models import Conversation, ConversationDailyTotal, Message, Webhook, WebhookDelivery
from logs.webhooks.models import EventName
from tests.support.admin.golden_questions import golden
from tests.support.commands import run
from tests.support.evaluations import JUDGE, calls_of_judge, data_of, evaluation, judging, logged, outcomes, plays

pytestmark = pytest.mark.django_db

RETURNS, GLASS = "Within how many days may shoes be returned?", "And the glass ones?"


def asked(report) -> list[str]:
    return [result["question"] for result in report["results"]]


def test_real_questions_of_the_last_days_are_drawn_once_each(openai, shop):
    other = Chatbot.objects.create(name="Other")
    logged(shop, RETURNS, "Within 45 days.", "thanks", "You're welcome.")
    logged(shop, f"  {RETURNS.upper()}", "Within 45 days.", source="api")
    logged(shop, "Hi!", "Hello!")
    logged(shop, "A test", "Works.", source="preview")
    logged(other, "Of another bot?", "Yes.")
    old = logged(shop, "Long ago?", "Yes.")
    Message.objects.filter(conversation=old).update(created_at=timezone.now() - timedelta(days=8))
    plays(openai, "Within 45 days [1].")
    report = evaluation(shop, "--since=7")
    (question,) = asked(report)
    assert question.strip().lower() == RETURNS.lower()
    assert outcomes(report) == ["passed", "passed", "not applicable"]
    assert report["results"][0]["message_id"] == Message.objects.get(content=question).message_id


def test_the_same_seed_draws_the_same_questions_also_from_a_log_that_grows(openai, shop):
    for number in range(40):
        logged(shop, f"Is number {number} red?", "Yes.")
    plays(openai, "Yes.")
    first = asked(evaluation(shop, "--sample=10"))
    assert (len(first), asked(evaluation(shop, "--sample=10"))) == (10, first)
    assert set(asked(evaluation(shop, "--sample=10", "--seed=7"))) != set(first)
    for number in range(40, 44):
        logged(shop, f"Is number {number} red?", "Yes.")
    again = asked(evaluation(shop, "--sample=10"))
    assert len(set(again) & set(first)) >= 6  # each new question displaces one at most


def test_a_follow_up_is_asked_in_its_conversation(openai, shop):
    logged(shop, RETURNS, "Within 45 days.", GLASS, "Never.")
    plays(
        openai,
        {RETURNS: "Within 45 days [1].", GLASS: "Whatever you like, for a very long time [1]."},
        judging(grounded="no"),
    )
    report = evaluation(shop, f"--judge=openai/{JUDGE}")
    assert sorted(asked(report)) == [GLASS, RETURNS]
    prompts = {
        sent.json["messages"][-1]["content"].rpartition("\n\n")[2]: sent.json["messages"]
        for sent in openai.sent
        if "messages" in sent.json
    }
    assert [said["content"] for said in prompts[GLASS][1:-1]] == [RETURNS, "Within 45 days."]
    assert len(prompts[RETURNS]) == 2
    conversation = [{"role": "user", "content": RETURNS}, {"role": "assistant", "content": "Within 45 days."}]
    assert data_of(calls_of_judge(openai)[0])["conversation"] == conversation


@pytest.mark.django_db(transaction=True)
def test_sampled_questions_are_neither_logged_nor_counted_nor_sent_on(openai, shop):
    Webhook.objects.create(name="All", url="https://hooks.example/", events=list(EventName.values))
    logged(shop, RETURNS, "Within 45 days.")
    shop.only_from_sources = True
    shop.save()
    plays(openai, shop.refusal_message)
    before = [model.objects.count() for model in (Conversation, Message, ConversationDailyTotal)]
    assert outcomes(evaluation(shop)) == ["failed", "not applicable", "not applicable"]
    assert [model.objects.count() for model in (Conversation, Message, ConversationDailyTotal)] == before
    assert not WebhookDelivery.objects.exists()
    assert open_questions(shop, 30) == []


def test_what_was_redacted_stays_redacted(openai, shop, settings):
    logged(shop, "May [e-mail] return shoes?", "Yes.")
    logged(
        shop,
        "Call me: +49 30 12345678. May shoes be returned?",
        "To ada@example.com?",
        "Yes, mine is bob@example.com",
        "Ok.",
    )
    settings.REDACT = ["email", "phone"]  # switched on after the second conversation
    plays(openai, "Write to ada@example.com [1].")
    report = evaluation(shop)
    assert sorted(asked(report)) == [
        "Call me: [phone]. May shoes be returned?",
        "May [e-mail] return shoes?",
        "Yes, mine is [e-mail]",
    ]
    stored = [str(value) for row in GoldenResult.objects.values() for value in row.values()]
    sent = [sent.body.decode() for sent in openai.sent]
    assert not any(word in text for word in ("@example", "12345678") for text in stored + sent)


# Retention and erasure


def test_results_are_deleted_with_their_conversation(openai, shop):
    old, new = logged(shop, RETURNS, "Within 45 days."), logged(shop, GLASS, "Never.")
    plays(openai, "Within 45 days [1].")
    golden(shop, "Open?", "nine")
    evaluation(shop)
    Conversation.objects.filter(pk=old.pk).update(updated_at=timezone.now() - timedelta(days=99))
    prune(90)
    assert {result.question for result in GoldenResult.objects.all()} == {GLASS, "Open?"}
    new.delete()
    assert GoldenResult.objects.get().question == "Open?"


def test_an_erased_visitor_is_in_no_result(openai, shop):
    logged(shop, RETURNS, "Within 45 days.", session_id="s-1")
    logged(shop, "Is ada@example.com there?", "No.", session_id="s-2")
    plays(openai, "Ask ada@example.com [1].", judging(grounded="no"))
    evaluation(shop, f"--judge=openai/{JUDGE}")
    out, _ = run("forget_user", "--session=s-1", "--yes", "--no-vacuum")
    assert "questions in evaluations: 1" in out
    assert GoldenResult.objects.get().question == "Is ada@example.com there?"
    run("forget_user", "--email=ada@example.com", "--yes", "--no-vacuum")
    result = GoldenResult.objects.get()
    assert (result.question, result.answer) == ("Is [e-mail] there?", "Ask [e-mail] [1].")
    assert "ada@" not in str(result.verdicts)


def test_a_visitor_who_is_erased_before_the_question_is_asked_is_not_asked(openai, shop):
    erased = logged(shop, RETURNS, "Within 45 days.")
    logged(shop, GLASS, "Never.")
    plays(openai, "Within 45 days [1].")
    claimed = claim_now(queue(shop, None, evaluation=Evaluation(sample=5)))
    Conversation.objects.filter(pk=erased.pk).delete()
    carry_out(claimed)
    assert [result.question for result in claimed.results.all()] == [GLASS]
    assert RETURNS not in "".join(sent.body.decode() for sent in openai.sent)
