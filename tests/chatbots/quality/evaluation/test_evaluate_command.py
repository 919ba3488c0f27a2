"""`evaluate`: its table, its exit codes, the difference to the run before, and what it does without asking."""

import json

import pytest
from django.core.management import CommandError
from django.urls import reverse

from chatbots.models import Chatbot, GoldenResult, GoldenRun
from logs.models import ModelPrice, UsageEvent
from tests.support.admin.golden_questions import golden, golden_page, run_worker
from tests.support.commands import run
from tests.support.evaluations import JUDGE, evaluation, judging, logged, plays

pytestmark = pytest.mark.django_db

ONE, TWO = "Within how many days may shoes be returned?", "When does the shop open?"
RIGHT = {ONE: "Shoes may be returned within 45 days [1].", TWO: "The shop opens at nine [1]."}
WRONG = RIGHT | {TWO: "The shop opens at 10:30 [1]."}


@pytest.fixture
def asked(openai, shop):
    golden(shop, ONE, "45 days")
    golden(shop, TWO, "nine")
    plays(openai, RIGHT)
    return shop


def evaluate(bot: Chatbot, *arguments: str) -> str:
    return run("evaluate", f"--bot={bot.pk}", "--sample=0", *arguments)[0]


def refused(bot: Chatbot | int, *arguments: str) -> tuple[int, str]:
    """Return the exit code and the message of a command that fails."""
    with pytest.raises(CommandError) as failure:
        run("evaluate", f"--bot={getattr(bot, 'pk', bot)}", *arguments)
    return failure.value.returncode, str(failure.value)


def test_the_table_shows_verdicts_reasons_and_totals(openai, asked):
    plays(openai, WRONG)
    lines = evaluate(asked).splitlines()
    assert lines[0].split() == ["Result", "Change", "Answered", "Grounded", "Correct", "Question"]
    assert lines[1].split() == ["passed", "passed", "passed", "passed", *ONE.split()]
    assert lines[2].split() == ["failed", "passed", "failed", "failed", *TWO.split()]
    assert lines[3].strip() == "grounded: Not in the cited passages: “10:30”."
    assert lines[4].strip() == "correct: The reply does not contain “nine”."
    assert lines[5].startswith("1 of 2 questions passed (50.0 %), 1 failed, 0 not judged; 0 newly failing, 0 newly")


@pytest.mark.parametrize("status", ["draft", "published"])
def test_the_bot_and_its_status_are_named(asked, status):
    Chatbot.objects.filter(pk=asked.pk).update(status=status)
    _, messages = run("evaluate", f"--bot={asked.pk}", "--sample=0")
    assert messages == f"Chatbot {asked.pk} (Shop), {status}: 2 golden questions, 0 questions of visitors.\n"


def test_changes_are_those_since_the_run_before(openai, asked):
    plays(openai, WRONG)
    assert [result["change"] for result in evaluation(asked, "--sample=0")["results"]] == [None, None]
    plays(openai, RIGHT)
    assert [result["change"] for result in evaluation(asked, "--sample=0")["results"]] == [None, "newly passing"]
    plays(openai, WRONG)
    report = evaluation(asked, "--sample=0")
    assert [result["change"] for result in report["results"]] == [None, "newly failing"]
    assert (report["totals"]["newly_failing"], report["totals"]["newly_passing"]) == (1, 0)
    assert [result["change"] for result in evaluation(asked, "--sample=0")["results"]] == [None, None]
    assert GoldenRun.objects.count() == 1  # only the last one is kept


def test_a_run_that_did_not_end_does_not_hide_a_change(openai, asked):
    evaluation(asked, "--sample=0")
    plays(openai, WRONG)
    GoldenRun.objects.update(state="dead")
    GoldenResult.objects.update(ended_at=None, before="passed")  # as if the second run had been killed at its start
    assert evaluation(asked, "--sample=0")["totals"]["newly_failing"] == 1


def test_what_was_not_judged_is_no_change(openai, asked):
    evaluation(asked, "--sample=0")
    plays(openai, RIGHT | {TWO: "At nine you are let in, to marvel at everything [1]."})
    report = evaluation(asked, "--sample=0")
    assert [result["outcome"] for result in report["results"]] == ["passed", "not judged"]
    assert report["totals"]["newly_failing"] == 0
    assert refused(asked, "--sample=0", "--fail-under=51") == (1, "50.0 % passed, less than 51 %.")


def test_exit_codes_for_continuous_integration(openai, asked):
    evaluate(asked, "--fail-under=100", "--no-regressions")
    plays(openai, WRONG)
    evaluate(asked, "--fail-under=50")
    evaluate(asked, "--no-regressions")  # it failed before as well
    assert refused(asked, "--sample=0", "--fail-under=51")[0] == 1
    plays(openai, RIGHT)
    evaluate(asked)
    plays(openai, WRONG)
    code, message = refused(asked, "--sample=0", "--no-regressions", "--fail-under=60")
    assert (code, message) == (
        1, "50.0 % passed, less than 60 %. 1 question passed in the last run and failed now.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--judge=nobody/x"], "There is no provider “nobody”"),
        (["--judge=claude/x"], "Claude is not connected."),
        (["--judge=/x"], "There is no provider “”"),
        (["--judge=ollama"], "Ollama has no default model"),
        (["--sample=201"], "must be a number from 0 to 200"),
        (["--sample=-1"], "must be a number from 0 to 200"),
        (["--since=0"], "must be a number from 1 to 36500"),
        (["--fail-under=101"], "must be a number from 0 to 100"),
        (["--seed=x"], "invalid int value"),
    ],
)
def test_wrong_usage_asks_nothing(openai, asked, settings, arguments, words):
    settings.PROVIDER_ENVIRONMENT["claude"] = {}
    with pytest.raises(CommandError, match=words):
        run("evaluate", f"--bot={asked.pk}", *arguments)
    assert openai.sent == []
    assert not GoldenRun.objects.exists()


def test_there_must_be_a_chatbot_that_answers_and_a_question(openai, shop):
    assert refused(999) == (2, "There is no chatbot 999.")
    code, message = refused(shop)
    assert (code, "There are no questions to ask" in message) == (2, True)
    golden(shop)
    Chatbot.objects.filter(pk=shop.pk).update(status="trash")
    assert refused(shop) == (2, "This chatbot is in the trash, so it answers no one.")
    assert openai.sent == []


def test_a_dry_run_lists_the_questions_and_what_they_may_cost(openai, asked):
    logged(asked, "Do you sell boots?", "Yes.")
    for model in ("gpt-4o-mini", JUDGE):
        ModelPrice.objects.create(provider="openai", model=model, input_price=100, output_price=100)
    before = UsageEvent.objects.count()
    out, _ = run("evaluate", f"--bot={asked.pk}", "--dry-run", f"--judge=openai/{JUDGE}")
    *questions, last = out.splitlines()
    assert questions == [f"golden    {ONE}", f"golden    {TWO}", "visitor's Do you sell boots?"]
    assert last.startswith("Would ask 3 questions; the replies about $0.")
    report = json.loads(run("evaluate", f"--bot={asked.pk}", "--dry-run", "--json")[0])
    assert (len(report["questions"]), report["judge_cost"]) == (3, 0)
    assert 0.06 < report["cost"] < 1
    assert (openai.sent, GoldenRun.objects.exists(), UsageEvent.objects.count()) == ([], False, before)


def test_an_unknown_price_is_called_unknown(asked):
    Chatbot.objects.filter(pk=asked.pk).update(model="home-made")
    assert "the replies at an unknown price, without a judge model." in evaluate(asked, "--dry-run")


def test_a_run_that_waits_for_a_decision_is_kept(admin_client, openai, asked):
    page = admin_client.get(reverse("admin:chatbots_chatbot_change", args=[asked.pk]))
    assert page.status_code == 200
    admin_client.post(reverse("admin:chatbots_chatbot_changelist"), {"action": "publish", "_selected_action": asked.pk})
    evaluate(asked)
    assert [run.is_before_publishing for run in GoldenRun.objects.order_by("pk")] == [True, False]
    run_worker()
    assert {run.state for run in GoldenRun.objects.all()} == {"done"}
    assert admin_client.get(golden_page(asked)).text.count("data-run=") == 2


def test_the_judge_model_may_be_that_of_another_provider(openai, asked):
    plays(openai, RIGHT | {TWO: "At nine you are let in, to marvel at everything [1]."}, judging(grounded="yes"))
    report = evaluation(asked, "--sample=0", f"--judge=deepseek/{JUDGE}")
    assert (report["judge"], report["totals"]["passed"]) == (f"deepseek/{JUDGE}", 2)
    assert UsageEvent.objects.get(model=JUDGE).provider == "deepseek"
