"""Golden questions: questions with known answers -> one turn each -> passed, or what is missing."""

import asyncio
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction

from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun
from chatbots.turn import Reply
from chatbots.visitor import Visitor
from chatbots.watch import WatchedTurn, watch_turn
from logs.prices import PriceBook
from providers.connection import on_event_loop
from vectorstores.retrieve import Passage

MAX_QUESTIONS = 50  # of a chatbot; whoever has a run made waits for it
CONCURRENCY = 2


def run_golden_questions(bot: Chatbot, visitor: Visitor) -> GoldenRun | None:
    """Ask those that are enabled and keep what came of it, in place of the run before; None where there are none.

    `bot` may hold settings that are not saved.
    """
    questions = list(GoldenQuestion.objects.filter(chatbot=bot.pk, is_enabled=True)[:MAX_QUESTIONS])
    if not questions:
        return None
    turns = on_event_loop(lambda: ask_all(bot, questions, visitor))
    prices = PriceBook()
    with transaction.atomic():
        GoldenRun.objects.filter(chatbot=bot.pk).delete()
        run = GoldenRun.objects.create(chatbot_id=bot.pk, user_id=visitor.user_id)
        GoldenResult.objects.bulk_create(
            result_of(run, question, turn, prices) for question, turn in zip(questions, turns, strict=True)
        )
    return run


async def ask_all(bot: Chatbot, questions: Iterable[GoldenQuestion], visitor: Visitor) -> list[WatchedTurn]:
    """In order. Each begins a conversation of its own."""
    free = asyncio.Semaphore(CONCURRENCY)

    async def ask(question: GoldenQuestion) -> WatchedTurn:
        async with free:
            return await watch_turn(bot, question.question, history=[], visitor=visitor)

    return await asyncio.gather(*(ask(question) for question in questions))


def result_of(run: GoldenRun, question: GoldenQuestion, turn: WatchedTurn, prices: PriceBook) -> GoldenResult:
    reply = turn.reply
    return GoldenResult(
        run=run,
        question=question.question,
        missing="\n".join(missing(question, reply)) if reply else "",
        answer=reply.text if reply else "",
        error=turn.error,
        sources=[source_json(passage) for passage in reply.passages] if reply else [],
        model=reply.model if reply else "",
        usage=reply.usage.as_json() if reply and reply.usage else None,
        cost=turn.cost(prices),
        milliseconds=turn.milliseconds,
    )


def missing(question: GoldenQuestion, reply: Reply) -> list[str]:
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
