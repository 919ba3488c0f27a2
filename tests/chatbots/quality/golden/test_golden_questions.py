"""Golden questions that pass or fail, and what a run stores."""

import threading
import time

import pytest

from chatbots.models import Chatbot, GoldenResult, GoldenRun
from logs.models import Conversation, ModelPrice
from tests.support.admin.chatbot_pages import text_of
from tests.support.admin.golden_questions import completion_with, golden, golden_page, run
from tests.support.admin.rows_of_models import NASTY
from tests.support.knowledge.shop import OPENING, RETURNS
from tests.support.upstream import answering

pytestmark = pytest.mark.django_db


# Passing and failing


@pytest.mark.parametrize(
    ("facts", "has_passed"),
    [
        ("from nine to six", True),
        ("FROM  Nine", True),  # case and repeated spaces are ignored
        ("until ten\nto six", True),  # one matching line is enough
        ("until ten\n\n  \nat eight", False),  # empty lines are ignored
        ("ｎｉｎｅ", True),
    ],
)
def test_expected_facts(admin_client, openai, bot, facts, has_passed):
    openai.pages["/v1/chat/completions"] = answering(completion_with("We are open\nfrom nine\nto six."))
    golden(bot, facts=facts)
    (result,) = run(admin_client, bot)
    assert result.has_passed == has_passed
    assert ("does not contain" in result.missing) != has_passed
    assert "We are open" in result.answer


@pytest.mark.parametrize(
    ("source", "has_passed"),
    [
        ("Returns", True),
        (" returns ", True),
        ("https://shop.example/returns/", True),
        ("Opening hours", False),  # in the collection, but not among the passages in the prompt
        ("Return", False),
    ],
)
def test_expected_sources(admin_client, store, bot, source, has_passed):
    store(RETURNS, OPENING)
    Chatbot.objects.filter(pk=bot.pk).update(enable_vector_store=True, collections=["shop"], vector_store_top_k=1)
    golden(bot, "Within how many days may shoes be returned?", facts="", expected_source=source)
    (result,) = run(admin_client, bot)
    assert result.has_passed == has_passed
    assert result.sources[0]["title"] == "Returns"
    page = admin_client.get(golden_page(bot))
    assert ("is not among the sources" in page.text) != has_passed


def test_fact_and_source_must_both_match(admin_client, openai, bot):
    golden(bot, facts="nine", expected_source="Opening hours")
    (result,) = run(admin_client, bot)
    assert result.missing == "The answer does not contain “nine”.\n“Opening hours” is not among the sources."


# Runs


def test_a_run_is_stored_and_shown(admin_client, admin_user, openai, bot):
    ModelPrice.objects.create(provider="openai", model="gpt-4o-mini", input_price=1000, output_price=2000)
    openai.pages["/v1/chat/completions"] = answering(completion_with(f"At nine. {NASTY}"))
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
    for words in ("by admin", "passed", "failed", "11 + 5", "$0.0210", "does not contain “at ten”"):
        assert words in text_of(page)
    assert NASTY not in page.text
    run(admin_client, bot)
    assert (GoldenRun.objects.count(), GoldenResult.objects.count()) == (1, 2)  # only the latest run is kept


def test_limits_for_visitors_do_not_apply_to_a_run(admin_client, openai, bot):
    Chatbot.objects.filter(pk=bot.pk).update(
        messages_per_minute=0, messages_per_day=0, token_guest_limit=0, is_paused=True
    )
    golden(bot)
    golden(bot, "Closed?")
    assert not any(result.error for result in run(admin_client, bot))
    assert [conversation.source for conversation in Conversation.objects.all()] == ["preview", "preview"]


def test_a_provider_error_fails_one_question_and_not_the_run(admin_client, openai, bot):
    def answer(connection):
        wrong = connection.received.json["messages"][-1]["content"] == "Fail!"
        body = {"error": {"message": "No more."}} if wrong else completion_with("nine")
        answering(body, 429 if wrong else 200)(connection)

    openai.pages["/v1/chat/completions"] = answer
    golden(bot, "Fail!")
    golden(bot)
    failed, passed = run(admin_client, bot)
    assert "No more." in failed.error
    assert not failed.has_passed
    assert passed.has_passed
    assert "No more." in admin_client.get(golden_page(bot)).text


def test_two_questions_are_asked_at_a_time(admin_client, openai, bot):
    active, peak, lock = [0], [0], threading.Lock()

    def behave(connection):
        with lock:
            active[0] += 1
            peak[0] = max(peak[0], active[0])
        time.sleep(0.1)
        with lock:
            active[0] -= 1
        answering(completion_with(connection.received.json["messages"][-1]["content"]))(connection)

    openai.pages["/v1/chat/completions"] = behave
    for number in range(6):
        golden(bot, f"number {number}", f"number {number}")
    results = run(admin_client, bot)
    assert peak == [2]
    assert [result.answer for result in results] == [f"number {number}" for number in range(6)]  # in order
    assert all(result.has_passed for result in results)


def test_without_questions_or_in_the_trash_nothing_is_asked(admin_client, openai, bot):
    golden(bot, is_enabled=False)
    assert run(admin_client, bot) == []
    bot.status = "trash"
    bot.save()
    golden(bot)
    assert run(admin_client, bot) == []
    assert not openai.sent
