"""Golden questions: a job asks a chatbot questions with known answers, and records what is missing in its answers.

    queue(): a run with one result row per question -> a worker claims it -> one turn per row, stored as it ends

An evaluation also asks visitors' questions from the log, without logging them again, and judges all replies.

If a worker is killed, its lease expires and another worker continues with the questions that have no result yet.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from chatbots.conversation.citations import source_numbers
from chatbots.conversation.trace import TracedTurn, trace_turn
from chatbots.conversation.visitor import Visitor
from chatbots.lifecycle.serializers import SETTINGS, settings_of
from chatbots.models import Chatbot, Criterion, GoldenQuestion, GoldenResult, GoldenRun, Outcome, Verdict
from chatbots.quality.evaluation import Evaluation, Judgment, evaluate, golden_result, sampled_result
from chatbots.quality.judge import Judge, judge_named
from chatbots.quality.rules import missing
from chatbots.quality.sample import earlier_messages, redacted, sampled_questions
from logs.models import Conversation
from logs.usage import PriceBook
from providers.bundled_model import bundled_model
from providers.run_async import run_async
from puffer.runtime import LeaseLost, claim, with_heartbeat
from vectorstores.retrieval import Passage

MAX_QUESTIONS = 50  # of a chatbot
CONCURRENCY = 2
LEASE_SECONDS = 30.0
MAX_ATTEMPTS = 10  # by workers that were killed or could not write, perhaps because of this run
INTERNAL_ERROR = "Internal error. See the worker's log."

OnResult = Callable[[], object]

logger = logging.getLogger(__name__)


# Queue


def queue(
    bot: Chatbot, user: User | None, *, before_publishing: bool = False, evaluation: Evaluation | None = None
) -> GoldenRun:
    """Queue a run of the enabled questions with the bot's settings, saved or not. It replaces the run before.

    An evaluation replaces the evaluation before, because only these can be compared. Without a user, it comes from a
    command, and leaves a run that waits for somebody's decision on publishing.
    """
    results = results_to_get(bot, evaluation)  # before the transaction: drawing a sample from a large log takes a while
    return queue_results(bot, user, results, before_publishing, evaluation)


@transaction.atomic
def queue_results(
    bot: Chatbot,
    user: User | None,
    results: Sequence[GoldenResult],
    before_publishing: bool = False,
    evaluation: Evaluation | None = None,
) -> GoldenRun:
    """Queue a run as queue() does, that is to get these results of results_to_get()."""
    saved = Chatbot.objects.select_for_update().get(pk=bot.pk)  # concurrent requests for a run wait for each other
    previous = GoldenRun.objects.filter(chatbot=bot.pk, evaluation__isnull=evaluation is None)
    compare(results, previous)
    (previous if user else previous.exclude(is_before_publishing=True)).delete()
    run = GoldenRun.objects.create(
        chatbot_id=bot.pk,
        user=user,
        settings=settings_of(bot),
        saved_settings=settings_of(saved),
        is_before_publishing=before_publishing,
        evaluation=asdict(evaluation) if evaluation else None,
    )
    for result in results:
        result.run = run
    GoldenResult.objects.bulk_create(results)
    return run


def results_to_get(bot: Chatbot, evaluation: Evaluation | None) -> list[GoldenResult]:
    """Return a row, not saved yet, for each question that a run would ask."""
    results = [golden_result(question) for question in enabled_questions(bot)[:MAX_QUESTIONS]]
    if evaluation:
        sample = sampled_questions(bot, evaluation.sample, evaluation.days, evaluation.seed)
        results += [sampled_result(question, redacted(question.content)) for question in sample]
    return results


def compare(results: Sequence[GoldenResult], previous: QuerySet[GoldenRun]) -> None:
    """Set `before` of the results by the last run that asked the same question, whether or not it ended."""
    before = {
        result.identity: result.outcome or result.before
        for result in GoldenResult.objects.filter(run__in=previous).order_by("pk")
    }
    for result in results:
        result.before = before.get(result.identity, "")


def enabled_questions(bot: Chatbot) -> QuerySet[GoldenQuestion]:
    return GoldenQuestion.objects.filter(chatbot=bot.pk, is_enabled=True)


def bot_of(run: GoldenRun) -> Chatbot:
    """Return a copy of the chatbot with the settings of the run."""
    bot = copy(run.chatbot)
    for name in set(SETTINGS) & run.settings.keys():
        setattr(bot, name, run.settings[name])
    return bot


def changes_of(run: GoldenRun) -> tuple[list[str], list[str]]:
    """Return the names of the settings that the run changes, and those that somebody else has changed meanwhile too.

    Only the first are to be saved: all other settings stay as they are on the chatbot.
    """
    current = settings_of(run.chatbot)
    before, chosen = run.saved_settings, run.settings  # without settings that are newer than the run
    names = [name for name in SETTINGS if name in chosen and name in before]
    changed = [name for name in names if chosen[name] not in (before[name], current[name])]
    kept = [name for name in changed if current[name] != before[name]]
    return [name for name in changed if name not in kept], kept


# Run by a worker


def run_due() -> bool:
    """Ask the questions of one queued run; return False if none is queued. One of settings.WORKER_JOBS."""
    run = claim(GoldenRun.objects.select_related("chatbot", "user"), LEASE_SECONDS)
    if run is None:
        return False
    try:
        if run.attempts > MAX_ATTEMPTS:
            run.fail(f"Stopped, because {MAX_ATTEMPTS} workers ended during this run.")
        else:
            carry_out(run)
    except LeaseLost:
        logger.warning("golden run %s was cancelled, claimed by another worker or replaced by another run", run.pk)
    return True


def claim_now(run: GoldenRun) -> GoldenRun | None:
    """Claim this run for the calling process; None if a worker has claimed it."""
    return claim(GoldenRun.objects.select_related("chatbot", "user").filter(pk=run.pk), LEASE_SECONDS)


def carry_out(run: GoldenRun, on_result: OnResult = lambda: None) -> None:
    """Ask all questions that have no result yet, and finish the run. Raise LeaseLost."""
    bot, pending = bot_of(run), iter(list(run.results.filter(ended_at=None).values_list("pk", flat=True)))
    with model_for(bot, run.judge):
        run_async(lambda: with_heartbeat(ask_all(run, bot, pending, on_result), lambda: run.extend(LEASE_SECONDS)))
    run.finish()


def model_for(bot: Chatbot, judge: str) -> AbstractContextManager[None]:
    """Return a context that runs the bundled model, if the bot or the judge may use it and no other process runs it."""
    embeds = bot.uses_knowledge and bot.vector_embedding_provider in ("", "local")
    completes = "local" in (bot.provider or "local", judge.partition("/")[0])
    return bundled_model() if embeds or completes else nullcontext()


async def ask_all(run: GoldenRun, bot: Chatbot, pending: Iterator[int], on_result: OnResult) -> None:
    """Ask a few questions at a time, each in a new conversation, and judge the replies in an evaluation."""
    prices = await sync_to_async(PriceBook)()
    judge = judge_named(run.judge)

    async def ask_next() -> None:
        for pk in pending:
            result = await GoldenResult.objects.filter(pk=pk).afirst()
            if result is None:  # deleted with its conversation
                continue
            earlier = await earlier_messages(result)
            turn = await ask_one(bot, result.question, earlier, visitor_of(run, result))
            judgment = await judge_one(bot, result, turn, earlier, judge) if run.evaluation else None
            await sync_to_async(store_result)(run, result, turn, judgment, prices)
            on_result()

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENCY):
                tasks.create_task(ask_next())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def visitor_of(run: GoldenRun, result: GoldenResult) -> Visitor:
    """Return who asks: the user, whose turns the log marks as previews; or a visitor, whose words are logged once."""
    if result.message_id:
        return Visitor(source=Conversation.Source.PREVIEW, is_logged=False)
    return Visitor(
        user_id=run.user_id,
        username=run.user.get_username() if run.user else "",
        source=Conversation.Source.PREVIEW,
    )


async def ask_one(bot: Chatbot, question: str, earlier: Sequence[Mapping[str, Any]], visitor: Visitor) -> TracedTurn:
    """Ask a question. A failure becomes its result and does not end the run."""
    try:
        return await trace_turn(bot, question, history=earlier, visitor=visitor)
    except Exception:
        logger.exception("a golden question of chatbot %s could not be asked", bot.pk)
        return TracedTurn(question, error=INTERNAL_ERROR)


async def judge_one(
    bot: Chatbot, result: GoldenResult, turn: TracedTurn, earlier: Sequence[Mapping[str, Any]], judge: Judge | None
) -> Judgment:
    """Judge a reply. A failure judges nothing and does not end the run, which would ask the question again."""
    try:
        return await evaluate(bot, result, turn, earlier, judge)
    except Exception:
        logger.exception("a reply of chatbot %s could not be judged", bot.pk)
        return Judgment(dict.fromkeys(Criterion, Verdict(Outcome.NOT_JUDGED, "internal")))


@transaction.atomic
def store_result(
    run: GoldenRun, result: GoldenResult, turn: TracedTurn, judgment: Judgment | None, prices: PriceBook
) -> None:
    """Extend the lease and store the result, so that a worker without the lease stores nothing. Raise LeaseLost."""
    run.extend(LEASE_SECONDS)
    clean = redacted if result.message_id else str
    columns: dict[str, Any] = {
        "error": clean(turn.error),
        "cost": turn.cost(prices),
        "milliseconds": turn.milliseconds,
        "ended_at": timezone.now(),
    }
    if reply := turn.reply:
        numbered = zip(source_numbers(reply.passages), reply.passages, strict=True)
        columns |= {
            "answer": clean(reply.text),
            "sources": [source_json(passage, cited=number in reply.cited) for number, passage in numbered],
            "model": reply.model,
            "usage": reply.usage.as_json() if reply.usage else None,
            "missing": "" if judgment else "\n".join(missing(result, reply)),
        }
    if judgment:
        columns |= {
            "verdicts": {
                criterion: replace(verdict, detail=clean(verdict.detail)).as_json()
                for criterion, verdict in judgment.verdicts.items()
            },
            "judge_cost": judge_cost(run, judgment, prices),
        }
    # Not save(), which would insert a row again that was deleted with its conversation.
    GoldenResult.objects.filter(pk=result.pk).update(**columns)


def judge_cost(run: GoldenRun, judgment: Judgment, prices: PriceBook) -> Decimal | None:
    judge = judge_named(run.judge)
    if judge is None or judgment.usage is None:
        return None
    tokens = {"input_tokens": judgment.usage.input_tokens, "output_tokens": judgment.usage.output_tokens}
    return prices.cost({"provider": judge.provider, "model": judge.model, **tokens})


def source_json(passage: Passage, *, cited: bool) -> dict[str, Any]:
    return {"title": passage.title, "url": passage.url, "score": round(passage.score, 4), "cited": cited}


def copy_golden_questions(origin: int, bot: Chatbot) -> None:
    """Copy the golden questions of the chatbot with the id `origin` to its copy."""
    questions = list(GoldenQuestion.objects.filter(chatbot=origin))
    for question in questions:
        question.pk, question.chatbot = None, bot
    GoldenQuestion.objects.bulk_create(questions)
