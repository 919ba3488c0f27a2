"""The verdicts on replies by rules alone: answered, grounded in what they cite, correct."""

import pytest

from tests.support.admin.golden_questions import golden
from tests.support.evaluations import evaluation, outcomes, plays

pytestmark = pytest.mark.django_db

QUESTION = "Within how many days may shoes be returned?"
YES, NO, OPEN, NONE = "passed", "failed", "not judged", "not applicable"

# The reply, and whether it is an answer, grounded and correct. The expected fact is "45 days"; [1] is the document
# about returns, [2] that about opening hours.
REPLIES = [
    ("Shoes may be returned within 45 days [1].", YES, YES, YES),
    ("Within 45 days, and the receipt is needed [1].", YES, YES, YES),
    ("Shoes may be returned within 60 days [1].", YES, NO, NO),
    ("Shoes may be returned within 45 days, or 60 with receipt [1].", YES, NO, YES),
    ("Shoes may be returned within 45 whole days [1].", YES, YES, YES),
    ("Shoes may be returned within 45 days.", YES, NO, YES),  # cites nothing
    ("Shoes may be returned within 45 days [2].", YES, NO, YES),  # cites the wrong document
    ("Shoes may be returned within 45 days [7].", YES, NO, YES),  # cites a document that does not exist
    ("The receipt is needed [1].", YES, YES, NO),
    ("Shoes may be returned within 45 days [1]; ask “Anna in room B”.", YES, NO, YES),
    ("Shoes may be returned within 45 days [1]: write to ask@shop.example.", YES, NO, YES),
    ("Shoes may be returned within 45 days [1]: https://shop.example/returns.", YES, YES, YES),
    ("Shoes may be returned within 45 days [1]: https://evil.example/.", YES, NO, YES),
    ("Shoes may be returned within 45 days [1]. Use form RX-2000.", YES, NO, YES),
    ("Shoes may be returned within 45 days [1]. Talk to Anna Schmidt.", YES, NO, YES),
    ("You can bring everything back for 45 days [1], no questions, free of charge, anywhere.", YES, OPEN, YES),
    ("Which shoes?", YES, NONE, NO),
    ("I have no information about that.", NO, NONE, NO),
    ("", NO, NONE, NO),
]


@pytest.mark.parametrize(("reply", "answered", "grounded", "correct"), REPLIES)
def test_replies(openai, shop, reply, answered, grounded, correct):
    plays(openai, reply)
    golden(shop, QUESTION, "45 days")
    report = evaluation(shop, "--sample=0")
    assert outcomes(report) == [answered, grounded, correct]
    worst = NO if NO in (answered, grounded, correct) else OPEN if OPEN in (answered, grounded, correct) else YES
    assert report["results"][0]["outcome"] == worst
    assert all(verdict["by"] == "rules" for verdict in report["results"][0]["verdicts"].values())


def test_what_is_missing_is_named(openai, shop):
    plays(openai, "Shoes may be returned within 60 days for 12.50 EUR [1].")
    golden(shop, QUESTION, "45 days\nsix weeks", expected_source="Returns")
    verdicts = evaluation(shop, "--sample=0")["results"][0]["verdicts"]
    assert verdicts["grounded"]["reason"] == "Not in the cited passages: “60”, “12.50”."
    assert verdicts["correct"]["reason"] == "The reply does not contain “45 days” / “six weeks”."


def test_a_number_of_the_question_is_not_invented_but_not_grounded_either(openai, shop):
    plays(openai, "Shoes may not be returned within 60 days [1].")
    golden(shop, "May shoes be returned within 60 days?", "not")
    assert outcomes(evaluation(shop, "--sample=0")) == [YES, OPEN, YES]


def test_the_expected_source_must_be_found(openai, shop):
    plays(openai, "Shoes may be returned within 45 days [1].")
    golden(shop, QUESTION, "", expected_source="Shipping")
    golden(shop, QUESTION, "", expected_source="https://shop.example/returns")
    report = evaluation(shop, "--sample=0")
    assert [outcomes(report, position)[2] for position in (0, 1)] == [NO, YES]
    assert report["results"][0]["verdicts"]["correct"]["reason"] == "“Shipping” is not among the sources."


def test_an_expected_refusal_passes(openai, shop):
    shop.only_from_sources = True
    shop.save()
    plays(openai, shop.refusal_message)
    golden(shop, "Who is the president?", "I have no information")
    report = evaluation(shop, "--sample=0")
    assert (outcomes(report), report["results"][0]["outcome"]) == ([YES, NONE, YES], YES)


def test_small_talk_and_bots_without_knowledge_need_no_passages(openai, shop, bot):
    plays(openai, "Hello, I am 99.")
    shop.only_from_sources = True
    shop.save()
    for each in (shop, bot):
        golden(each, "Hi!", "hello")
        assert outcomes(evaluation(each, "--sample=0")) == [YES, NONE, YES]


def test_a_bot_that_hides_its_sources_is_compared_with_all_passages(openai, shop):
    shop.show_sources = False
    shop.save()
    plays(openai, "Shoes may be returned within 45 days, and the shop opens at nine.")
    golden(shop, QUESTION, "45 days")
    assert outcomes(evaluation(shop, "--sample=0")) == [YES, YES, YES]


def test_a_failed_call_is_no_answer(openai, shop):
    golden(shop, QUESTION, "45 days")
    for status in (429, 500):
        openai.serves("/v1/chat/completions", {"error": {"message": "No more."}}, status)
        report = evaluation(shop, "--sample=0")
        assert outcomes(report) == [NO, NONE, NO]
        assert "No more." in report["results"][0]["verdicts"]["answered"]["reason"]
