"""Golden questions: a job asks a chatbot questions with known answers, and records what is missing in its answers.

    queue(): a run with one result row per question -> a worker claims it -> one turn per row, stored as it ends

If a worker is killed, its lease expires and another worker continues with the questions that have no result yet.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from chatbots.conversation.trace import TracedTurn, trace_turn
from chatbots.conversation.turn_events import Reply
from chatbots.conversation.visitor import Visitor
from chatbots.lifecycle.serializers import SETTINGS, settings_of
from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun
from logs.models import Conversation
from logs.usage import PriceBook
from providers.bundled_model import bundled_model
from providers.run_async import run_async
from puffer.runtime import LeaseLost, claim, with_heartbeat
from puffer.text import normalize
from vectorstores.retrieval import Passage

MAX_QUESTIONS = 50  # of a chatbot
CONCURRENCY = 2
LEASE_SECONDS = 30.0
MAX_ATTEMPTS = 10  # by workers that were killed or could not write, perhaps because of this run
INTERNAL_ERROR = "Internal error. See the worker's log."

logger = logging.getLogger(__name__)


# Queue


@transaction.atomic
def queue(bot: Chatbot, user: User, *, before_publishing: bool = False) -> GoldenRun:
    """Queue a run of the enabled questions with the bot's settings, saved or not. It replaces the previous run."""
    saved = Chatbot.objects.select_for_update().get(pk=bot.pk)  # concurrent requests for a run wait for each other
    GoldenRun.objects.filter(chatbot=bot.pk).delete()
    run = GoldenRun.objects.create(
        chatbot_id=bot.pk,
        user=user,
        settings=settings_of(bot),
        saved_settings=settings_of(saved),
        is_before_publishing=before_publishing,
    )
    GoldenResult.objects.bulk_create(
        GoldenResult(
            run=run,
            question=question.question,
            expected_facts=question.expected_facts,
            expected_source=question.expected_source,
        )
        for question in enabled_questions(bot)[:MAX_QUESTIONS]
    )
    return run


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
            ask(run)
            run.finish()
    except LeaseLost:
        logger.warning("golden run %s was claimed by another worker or replaced by another run", run.pk)
    return True


def ask(run: GoldenRun) -> None:
    """Ask all questions that have no result yet. Raise LeaseLost."""
    bot, prices = bot_of(run), PriceBook()
    visitor = Visitor(
        user_id=run.user_id,
        username=run.user.get_username() if run.user else "",
        source=Conversation.Source.PREVIEW,
    )
    pending = iter(list(run.results.filter(ended_at=None)))
    with model_for(bot):
        run_async(
            lambda: with_heartbeat(ask_all(run, bot, visitor, pending, prices), lambda: run.extend(LEASE_SECONDS))
        )


def model_for(bot: Chatbot) -> AbstractContextManager[None]:
    """Return a context that runs the bundled model, if the bot may use it and no other process runs it."""
    embeds = bot.uses_knowledge and bot.vector_embedding_provider in ("", "local")
    return bundled_model() if embeds or bot.provider in ("", "local") else nullcontext()


async def ask_all(
    run: GoldenRun, bot: Chatbot, visitor: Visitor, pending: Iterator[GoldenResult], prices: PriceBook
) -> None:
    """Ask a few questions at a time, each in a new conversation."""

    async def ask_next() -> None:
        for result in pending:
            turn = await ask_one(bot, result.question, visitor)
            await sync_to_async(store_result)(run, result, turn, prices)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENCY):
                tasks.create_task(ask_next())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def ask_one(bot: Chatbot, question: str, visitor: Visitor) -> TracedTurn:
    """Ask a question. A failure becomes its result and does not end the run."""
    try:
        return await trace_turn(bot, question, history=[], visitor=visitor)
    except Exception:
        logger.exception("a golden question of chatbot %s could not be asked", bot.pk)
        return TracedTurn(question, error=INTERNAL_ERROR)


@transaction.atomic
def store_result(run: GoldenRun, result: GoldenResult, turn: TracedTurn, prices: PriceBook) -> None:
    """Extend the lease and store the result, so that a worker without the lease stores nothing. Raise LeaseLost."""
    run.extend(LEASE_SECONDS)
    if reply := turn.reply:
        result.missing = "\n".join(missing(result, reply))
        result.answer = reply.text
        result.sources = [source_json(passage) for passage in reply.passages]
        result.model = reply.model
        result.usage = reply.usage.as_json() if reply.usage else None
    result.error, result.cost, result.milliseconds = turn.error, turn.cost(prices), turn.milliseconds
    result.ended_at = timezone.now()
    result.save()


# Comparison with the expectations


def missing(question: GoldenResult, reply: Reply) -> list[str]:
    """Return a sentence for each expectation that the reply does not meet."""
    problems = []
    facts = [fact for line in question.expected_facts.splitlines() if (fact := plain(line))]
    if facts and not any(fact in plain(reply.text) for fact in facts):
        problems.append(f"The answer does not contain “{'” or “'.join(facts)}”.")
    source = plain(question.expected_source)
    if source and not any(source in names_of(passage) for passage in reply.passages):
        problems.append(f"“{question.expected_source.strip()}” is not among the sources.")
    return problems


def names_of(passage: Passage) -> Sequence[str]:
    return [plain(name) for name in (passage.title, passage.url, passage.document_id)]


def plain(text: str) -> str:
    """Normalize a text for comparison: case, Unicode form, white space, and a slash at the end of an address."""
    return " ".join(normalize("NFKC", text).casefold().split()).rstrip("/")


def source_json(passage: Passage) -> dict[str, Any]:
    return {"title": passage.title, "url": passage.url, "score": round(passage.score, 4)}


def copy_golden_questions(origin: int, bot: Chatbot) -> None:
    """Copy the golden questions of the chatbot with the id `origin` to its copy."""
    questions = list(GoldenQuestion.objects.filter(chatbot=origin))
    for question in questions:
        question.pk, question.chatbot = None, bot
    GoldenQuestion.objects.bulk_create(questions)
