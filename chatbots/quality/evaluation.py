"""Evaluate replies: verdicts by rules and by the judge model, an estimate of the cost before, and totals after.

a traced turn -> rules -> the judge, for what they leave undecided -> verdicts
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from chatbots.conversation.citations import source_numbers
from chatbots.conversation.prompt import expected_context
from chatbots.conversation.trace import TracedTurn
from chatbots.conversation.turn import choose_model
from chatbots.models import Change, Chatbot, Criterion, GoldenQuestion, GoldenResult, Outcome, Verdict
from chatbots.quality.judge import INSTRUCTIONS, Case, Judge, ask_judge
from chatbots.quality.rules import (
    UNDECIDED,
    answered,
    cited_passages,
    correct,
    expected_facts,
    failed,
    grounded,
    not_applicable,
    text_of,
)
from logs.models import Message
from logs.usage import PriceBook
from providers.base import Usage
from providers.tokens import tokens_of
from puffer.runtime import in_thread_if_large

TYPICAL_REPLY, TYPICAL_VERDICT = 200, 100  # tokens


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation asks in addition to the golden questions, and which model judges; "": rules only."""

    sample: int = 0
    days: int = 30
    seed: int = 0
    judge: str = ""


@dataclass(frozen=True, slots=True)
class Judgment:
    """The verdicts on a reply. `usage` is None if the judge was not asked, or reported none."""

    verdicts: Mapping[Criterion, Verdict]
    usage: Usage | None = None


async def evaluate(
    bot: Chatbot, question: GoldenResult, turn: TracedTurn, earlier: Sequence[Mapping[str, Any]], judge: Judge | None
) -> Judgment:
    """Judge the reply on each criterion. `earlier` are the messages before the question."""
    characters = len(turn.reply.text) if turn.reply else 0
    verdicts = await in_thread_if_large(characters, lambda: by_rules(bot, question, turn))
    undecided = [criterion for criterion, verdict in verdicts.items() if verdict == UNDECIDED]
    if not undecided:
        return Judgment(verdicts)
    if judge is None:
        if Criterion.CORRECT in undecided:  # a golden question names the words that its answer must contain
            facts = " / ".join(f"“{fact}”" for fact in question.expected_facts.splitlines() if fact.strip())
            verdicts[Criterion.CORRECT] = failed("missing_fact", facts)
        return Judgment(verdicts)
    judged, usage = await ask_judge(judge, case_of(bot, question, turn, earlier), undecided, bot.pk)
    return Judgment(verdicts | judged, usage)


def by_rules(bot: Chatbot, question: GoldenResult, turn: TracedTurn) -> dict[Criterion, Verdict]:
    verdicts = {Criterion.ANSWERED: answered(bot, question, turn)}
    is_refusal = verdicts[Criterion.ANSWERED].reason == "refusal_expected"
    if turn.reply is None or verdicts[Criterion.ANSWERED].outcome != Outcome.PASSED:
        verdicts[Criterion.GROUNDED] = not_applicable("not_answered")
        is_expected = question.expected_facts.strip() or question.expected_source.strip()
        verdicts[Criterion.CORRECT] = failed("not_answered") if is_expected else not_applicable("no_expectation")
        return verdicts
    verdicts[Criterion.GROUNDED] = not_applicable("not_answered") if is_refusal else grounded(bot, question, turn)
    verdicts[Criterion.CORRECT] = correct(question, turn.reply)
    return verdicts


def case_of(bot: Chatbot, question: GoldenResult, turn: TracedTurn, earlier: Sequence[Mapping[str, Any]]) -> Case:
    assert turn.reply is not None  # only replies are judged
    cited = cited_passages(bot, turn.reply)
    numbers = dict(zip(map(id, turn.reply.passages), source_numbers(turn.reply.passages), strict=True))
    return Case(
        turn.asking.prompt.instructions if turn.asking else bot.instructions,
        earlier,
        question.question,
        [(numbers[id(passage)], text_of(passage)) for passage in cited],
        turn.reply.text,
        expected_facts(question),
    )


# Before


@dataclass(frozen=True, slots=True)
class Estimate:
    """About what an evaluation costs in US dollars at most; None if a price is unknown. The judge is asked for all."""

    questions: int
    cost: Decimal | None
    judge_cost: Decimal | None


async def estimate(bot: Chatbot, questions: Sequence[str], judge: Judge | None, prices: PriceBook) -> Estimate:
    """Estimate the cost of the completions. Raise ApiError if the bot has no model."""
    provider, model = await choose_model(bot)
    each = tokens_of(len(bot.instructions) + expected_context(bot, []))
    asked = sum(each + tokens_of(len(question)) for question in questions)
    read = asked + len(questions) * (TYPICAL_REPLY + tokens_of(len(INSTRUCTIONS)))
    return Estimate(
        len(questions),
        cost_of(prices, provider, model, asked, TYPICAL_REPLY * len(questions)),
        cost_of(prices, judge.provider, judge.model, read, TYPICAL_VERDICT * len(questions)) if judge else Decimal(0),
    )


def cost_of(prices: PriceBook, provider: str, model: str, tokens_in: int, tokens_out: int) -> Decimal | None:
    if not tokens_out:
        return Decimal(0)
    tokens = {"input_tokens": tokens_in, "output_tokens": tokens_out}
    return prices.cost({"provider": provider, "model": model, **tokens})


# After


@dataclass(frozen=True, slots=True)
class Totals:
    """The numbers of questions by outcome, and those whose outcome differs from the run before."""

    questions: int
    passed: int
    failed: int
    not_judged: int
    newly_failing: int
    newly_passing: int
    cost: Decimal
    judge_cost: Decimal

    @property
    def percent(self) -> float:
        """Return the percentage that passed. What was not judged has not passed."""
        return 100 * self.passed / self.questions if self.questions else 0.0


def totals_of(results: Iterable[GoldenResult]) -> Totals:
    results = list(results)
    outcomes = [result.outcome for result in results]
    changes = [result.change for result in results]
    return Totals(
        len(results),
        outcomes.count(Outcome.PASSED),
        outcomes.count(Outcome.FAILED),
        outcomes.count(Outcome.NOT_JUDGED),
        changes.count(Change.NEWLY_FAILING),
        changes.count(Change.NEWLY_PASSING),
        sum((result.cost for result in results if result.cost), Decimal(0)),
        sum((result.judge_cost for result in results if result.judge_cost), Decimal(0)),
    )


def golden_result(question: GoldenQuestion) -> GoldenResult:
    return GoldenResult(
        question=question.question,
        expected_facts=question.expected_facts,
        expected_source=question.expected_source,
    )


def sampled_result(question: Message, text: str) -> GoldenResult:
    return GoldenResult(
        question=text,
        conversation_id=question.conversation_id,
        message_id=question.message_id,
    )
