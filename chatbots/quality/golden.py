"""Golden questions: questions with known answers, which a worker asks, each -> passed, or what is missing.

    queue(): a run, with a row for each question -> claimed by a worker -> one turn for each row, kept as it comes

A worker that is killed leaves its lease behind, and another goes on with the questions that have no result yet.
"""

import asyncio
import logging
import unicodedata
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
from chatbots.conversation.turn import Reply
from chatbots.conversation.visitor import Visitor
from chatbots.lifecycle.exchange import settings
from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun
from logs.models import Conversation
from logs.usage import PriceBook
from providers.local import bundled_model
from providers.run_async import run_async
from puffer.runtime import LeaseLost, claim, with_heartbeat
from vectorstores.retrieve import Passage

MAX_QUESTIONS = 50  # of a chatbot
CONCURRENCY = 2
LEASE_SECONDS = 30.0
MAX_ATTEMPTS = 10  # of workers that were killed, or could not write: perhaps because of this very run
OUR_FAULT = "Something went wrong here; the log of the worker has it."

logger = logging.getLogger(__name__)


# In


@transaction.atomic
def queue(bot: Chatbot, user: User, *, before_publishing: bool = False) -> GoldenRun:
    """The questions that are enabled, to be asked with the chatbot's settings, saved or not. The run before goes."""
    Chatbot.objects.select_for_update().get(pk=bot.pk)  # two who ask for a run at once do so one after another
    GoldenRun.objects.filter(chatbot=bot.pk).delete()
    run = GoldenRun.objects.create(
        chatbot_id=bot.pk, user=user, settings=settings_of(bot), is_before_publishing=before_publishing
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


def settings_of(bot: Chatbot) -> dict[str, Any]:
    return {name: setting.value_from_object(bot) for name, setting in settings().items()}


def bot_of(run: GoldenRun) -> Chatbot:
    """The chatbot with the settings of the run."""
    bot = copy(run.chatbot)
    for name in settings().keys() & run.settings.keys():
        setattr(bot, name, run.settings[name])
    return bot


# Done by a worker


def run_due() -> bool:
    """One of settings.WORKER_JOBS: ask the questions of one run."""
    run = claim(GoldenRun.objects.select_related("chatbot", "user"), LEASE_SECONDS)
    if run is None:
        return False
    try:
        if run.attempts > MAX_ATTEMPTS:
            run.fail(f"Workers have ended {MAX_ATTEMPTS} times while they were at it.")
        else:
            ask(run)
            run.finish()
    except LeaseLost:
        logger.warning("golden run %s was taken up by another worker, or replaced by another run", run.pk)
    return True


def ask(run: GoldenRun) -> None:
    """All that has no result yet. Raises LeaseLost."""
    bot, prices = bot_of(run), PriceBook()
    visitor = Visitor(
        user_id=run.user_id,
        username=run.user.get_username() if run.user else "",
        source=Conversation.Source.PREVIEW,
    )
    left = iter(list(run.results.filter(ended_at=None)))
    with model_for(bot):
        run_async(lambda: with_heartbeat(ask_all(run, bot, visitor, left, prices), lambda: run.extend(LEASE_SECONDS)))


def model_for(bot: Chatbot) -> AbstractContextManager[None]:
    """The bundled model, where it may be what answers or embeds, and nobody else runs it."""
    embeds = bot.uses_knowledge and bot.vector_embedding_provider in ("", "local")
    return bundled_model() if embeds or bot.provider in ("", "local") else nullcontext()


async def ask_all(
    run: GoldenRun, bot: Chatbot, visitor: Visitor, left: Iterator[GoldenResult], prices: PriceBook
) -> None:
    """A few at a time. Each begins a conversation of its own."""

    async def ask_next() -> None:
        for result in left:
            turn = await turn_of(bot, result.question, visitor)
            await sync_to_async(keep)(run, result, turn, prices)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENCY):
                tasks.create_task(ask_next())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def turn_of(bot: Chatbot, question: str, visitor: Visitor) -> TracedTurn:
    """What fails is the question's result, and no end of the run."""
    try:
        return await trace_turn(bot, question, history=[], visitor=visitor)
    except Exception:
        logger.exception("a golden question of chatbot %s could not be asked", bot.pk)
        return TracedTurn(question, error=OUR_FAULT)


@transaction.atomic
def keep(run: GoldenRun, result: GoldenResult, turn: TracedTurn, prices: PriceBook) -> None:
    """With the lease, so that a worker that has lost it writes nothing. Raises LeaseLost."""
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


# What has passed


def missing(question: GoldenResult, reply: Reply) -> list[str]:
    """What was expected and did not come, in sentences."""
    problems = []
    facts = [fact for line in question.expected_facts.splitlines() if (fact := plain(line))]
    if facts and not any(fact in plain(reply.text) for fact in facts):
        problems.append(f"The answer does not hold “{'” or “'.join(facts)}”.")
    source = plain(question.expected_source)
    if source and not any(source in names_of(passage) for passage in reply.passages):
        problems.append(f"“{question.expected_source.strip()}” is not among the sources.")
    return problems


def names_of(passage: Passage) -> Sequence[str]:
    return [plain(name) for name in (passage.title, passage.url, passage.document_id)]


def plain(text: str) -> str:
    """One way to write it: without upper case, line breaks, and the slash at the end of an address."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip("/")


def source_json(passage: Passage) -> dict[str, Any]:
    return {"title": passage.title, "url": passage.url, "score": round(passage.score, 4)}


def copy_golden_questions(origin: int, bot: Chatbot) -> None:
    """Those of a chatbot, for its copy."""
    questions = list(GoldenQuestion.objects.filter(chatbot=origin))
    for question in questions:
        question.pk, question.chatbot = None, bot
    GoldenQuestion.objects.bulk_create(questions)
