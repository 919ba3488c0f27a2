"""Unanswered questions: find the questions that a chatbot failed to answer.

log -> failed turns -> each question once -> groups of similar questions
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext

from chatbots.conversation.knowledge import knowledge_of
from chatbots.models import Chatbot, QuestionEmbedding, SettledQuestion
from logs.models import Conversation, Feedback, Message
from logs.search import normalized
from providers.base import EmbeddingRequest
from providers.run_async import run_async
from providers.use_cases import embed
from puffer.api import ApiError
from vectorstores.base import Floats
from vectorstores.ingestion import as_floats, batch_size, chunk_size
from vectorstores.retrieval import Knowledge, least_cosine

logger = logging.getLogger(__name__)

MAX_TURNS, MAX_QUESTIONS = 5000, 500  # of a chatbot, the newest
SECONDS = 10  # that a page waits for embeddings; finished ones are cached, so the next page view continues
KEPT_DAYS = 120  # for cached embeddings; longer than any page looks back
# In percent, like a chatbot's threshold. Measured with the bundled model on questions in English and German: 50 groups
# 8 of 10 pairs with the same meaning, and 1 of 100 pairs with different meanings.
SIMILARITY = 50
PUNCTUATION = " ?!.,;:…¿¡\"'„“”"  # ignored at both ends of a question


@dataclass(frozen=True, slots=True)
class FailedTurn:
    question: str
    answer: str
    asked_at: datetime
    conversation_id: int
    reply_id: str
    reasons: Sequence[str]


@dataclass(slots=True)
class Question:
    """A question and the turns that asked it, newest first, in any spelling that digest_of() treats as equal."""

    digest: str
    turns: list[FailedTurn] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.turns[0].question

    @property
    def asked_at(self) -> datetime:
        return self.turns[0].asked_at


@dataclass(slots=True)
class Group:
    """Similar questions. The first one represents the group."""

    questions: list[Question]

    @property
    def text(self) -> str:
        return self.questions[0].text

    @property
    def turns(self) -> list[FailedTurn]:
        """Return the turns of all questions, newest first."""
        turns = [turn for question in self.questions for turn in question.turns]
        return sorted(turns, key=lambda turn: turn.asked_at, reverse=True)

    @property
    def count(self) -> int:
        return sum(len(question.turns) for question in self.questions)

    @property
    def asked_at(self) -> datetime:
        return max(question.asked_at for question in self.questions)

    @property
    def reasons(self) -> list[tuple[str, int]]:
        return Counter(reason for turn in self.turns for reason in turn.reasons).most_common()

    @property
    def digests(self) -> str:
        """Return the digests of all questions, separated by commas, for a form field."""
        return ",".join(question.digest for question in self.questions)


def digest_of(question: str) -> str:
    """Return a digest of the question that ignores case, accents, white space and punctuation at both ends."""
    return hashlib.sha256(
        " ".join(normalized(question).split()).strip(PUNCTUATION).encode(errors="replace")
    ).hexdigest()


# Failed turns


def open_questions(bot: Chatbot, days: int) -> list[Question]:
    """Return the questions of the last days that are neither answered nor dismissed, most asked first, then newest."""
    questions: dict[str, Question] = {}
    settled = {row.digest: row for row in SettledQuestion.objects.filter(chatbot=bot)}
    for turn in failed_turns(bot, days):
        digest = digest_of(turn.question)
        if digest in settled and not fails_again(settled[digest], turn):
            continue
        if digest not in questions and len(questions) == MAX_QUESTIONS:
            continue
        questions.setdefault(digest, Question(digest)).turns.append(turn)
    return sorted(questions.values(), key=lambda question: (-len(question.turns), -question.asked_at.timestamp()))


def fails_again(settled: SettledQuestion, turn: FailedTurn) -> bool:
    """Return whether the turn failed although an answer had been added before."""
    return bool(settled.document_id) and turn.asked_at > settled.settled_at


def failed_turns(bot: Chatbot, days: int) -> list[FailedTurn]:
    """Return the failed turns, newest first, without tests in the admin and failed searches."""
    since = timezone.now() - timedelta(days=days)
    marked = Conversation.objects.filter(
        Q(has_unanswered=True) | Q(rating=Feedback.DOWN), chatbot=bot, updated_at__gte=since
    ).exclude(source=Conversation.Source.PREVIEW)
    without_passage = Q(passages=[], error="") & ~Q(content=bot.knowledge_unavailable_message)
    refused = Q(content=bot.refusal_message.strip())
    asked = Message.objects.filter(
        conversation=OuterRef("conversation"), pk__lt=OuterRef("pk"), role=Message.Role.USER
    ).order_by("-pk")
    answers = (
        Message.objects.filter(conversation__in=marked, role=Message.Role.BOT, created_at__gte=since)
        .filter(without_passage | refused | Q(feedback=Feedback.DOWN))
        .only("conversation", "message_id", "content", "created_at", "error", "feedback", "passages")
        .annotate(question=Subquery(asked.values("content")[:1]))
        .order_by("-created_at", "-pk")
    )
    return [
        FailedTurn(
            answer.question,
            answer.content,
            answer.created_at,
            answer.conversation_id,
            answer.message_id,
            reasons(answer, bot),
        )
        for answer in answers[:MAX_TURNS]
        if answer.question
    ]


def reasons(answer: Message, bot: Chatbot) -> list[str]:
    found = {
        gettext("nothing found"): answer.passages == [] and not answer.error,
        gettext("refusal"): answer.content == bot.refusal_message.strip(),
        gettext("thumbs down"): answer.feedback == Feedback.DOWN,
    }
    return [reason for reason, holds in found.items() if holds]


# Similar questions


def groups_of(bot: Chatbot, questions: Sequence[Question]) -> tuple[list[Group], str]:
    """Return the groups, most asked first, then newest; and why some questions could not be compared, or ""."""
    vectors: dict[str, Floats] = {}
    problem, least = "", 0.0
    if bot.uses_knowledge and len(questions) > 1:
        try:
            knowledge = run_async(lambda: knowledge_of(bot))
        except ApiError as error:
            problem = error.message
        else:
            least = least_cosine(knowledge.embedding_model, SIMILARITY)
            vectors, problem = vectors_of(bot, questions, knowledge)
    similar = group_similar([vectors.get(question.digest) for question in questions], least)
    groups = [Group([questions[index] for index in indices]) for indices in similar]
    return sorted(groups, key=lambda group: (-group.count, -group.asked_at.timestamp())), problem


def group_similar(vectors: Sequence[Floats | None], least: float) -> list[list[int]]:
    """Return groups of indices of the vectors. A missing vector (None) is a group of its own.

    Each vector joins the group whose first vector is nearest, if their cosine is at least `least`; otherwise it begins
    a new group.
    """
    groups: list[list[int]] = []
    leaders: list[int] = []  # groups that others may join
    units: list[Floats] = []  # their first vectors, of length 1
    for index, vector in enumerate(vectors):
        length = 0.0 if vector is None else float(np.linalg.norm(vector))
        if vector is None or not length:
            groups.append([index])
            continue
        unit = vector / length
        cosines = [float(unit @ other) if unit.size == other.size else -1.0 for other in units]
        nearest = int(np.argmax(cosines)) if cosines else 0
        if cosines and cosines[nearest] >= least:
            groups[leaders[nearest]].append(index)
            continue
        leaders.append(len(groups))
        units.append(unit)
        groups.append([index])
    return groups


def vectors_of(bot: Chatbot, questions: Sequence[Question], knowledge: Knowledge) -> tuple[dict[str, Floats], str]:
    """Return the vectors by digest, cached or embedded now; and why some are missing, or ""."""
    vectors = cached_vectors(questions, knowledge)
    new = [question for question in questions if question.digest not in vectors]
    if not new:
        return vectors, ""
    QuestionEmbedding.objects.filter(created_at__lt=timezone.now() - timedelta(days=KEPT_DAYS)).delete()
    problem = ""
    try:
        run_async(lambda: embed_questions(bot, new, knowledge))
    except TimeoutError:
        problem = gettext("There are many new questions. Reload this page to compare more of them.")
    except ApiError as error:
        problem = error.message
    return vectors | cached_vectors(new, knowledge), problem


def cached_vectors(questions: Iterable[Question], knowledge: Knowledge) -> dict[str, Floats]:
    rows = QuestionEmbedding.objects.filter(
        provider=knowledge.embedding_provider,
        model=knowledge.embedding_model,
        digest__in=[question.digest for question in questions],
    )
    return {digest: np.frombuffer(values, "<f4") for digest, values in rows.values_list("digest", "values")}


async def embed_questions(bot: Chatbot, questions: Sequence[Question], knowledge: Knowledge) -> None:
    """Embed the questions and cache each batch as it arrives. Raise ApiError, or TimeoutError after SECONDS."""
    provider, model = knowledge.embedding_provider, knowledge.embedding_model
    size, longest = batch_size(provider), chunk_size(provider, model)
    async with asyncio.timeout(SECONDS):
        for start in range(0, len(questions), size):
            batch = questions[start : start + size]
            request = EmbeddingRequest(
                model=model, texts=[question.text[:longest] for question in batch], task_type="RETRIEVAL_QUERY"
            )
            embeddings = await embed(None, provider, request, chatbot_id=bot.pk)
            values = [as_floats(vector).astype("<f4").tobytes() for vector in embeddings.vectors]
            rows = [
                QuestionEmbedding(provider=provider, model=model, digest=question.digest, values=vector)
                for question, vector in zip(batch, values, strict=True)
            ]
            await QuestionEmbedding.objects.abulk_create(rows, ignore_conflicts=True)
