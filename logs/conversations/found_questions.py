"""The visitors' questions for which a document was found, from the passages in the log."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Subquery, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from logs.models import Conversation, Message

# No index holds the passages, so only the newest rows are read.
MAX_SEARCHED = 2000  # conversations
MAX_ANSWERS = 200


@dataclass(frozen=True, slots=True)
class FoundQuestion:
    """A question and the document's best score for it: a cosine, -1 to 1. `cited`: the reply names the document."""

    question: str
    asked_at: datetime
    conversation_id: int
    score: float
    cited: bool


def questions_that_found(
    store: str, collection: str, namespace: str | None, document_id: str, days: int
) -> list[FoundQuestion]:
    """Return the questions of the last days whose prompt contained the document, newest first, without previews.

    Without a namespace (None), the store has none, and those in the log mean nothing.
    """
    since = timezone.now() - timedelta(days=days)
    recent = Conversation.objects.filter(updated_at__gte=since).exclude(source=Conversation.Source.PREVIEW)
    asked = Message.objects.filter(
        conversation=OuterRef("conversation"), pk__lt=OuterRef("pk"), role=Message.Role.USER
    ).order_by("-pk")
    answers = (
        Message.objects.filter(
            conversation__in=recent.order_by("-updated_at").values("pk")[:MAX_SEARCHED],
            role=Message.Role.BOT,
            created_at__gte=since,
        )
        .alias(shown=Cast("passages", TextField()))
        .filter(shown__contains=document_id)  # also other ids that contain this one
        .annotate(question=Subquery(asked.values("content")[:1]))
        .order_by("-created_at", "-pk")
        .only("conversation", "created_at", "passages")
    )
    found: list[FoundQuestion] = []
    for answer in answers[:MAX_ANSWERS]:
        passages = list(passages_of(answer.passages or [], store, collection, namespace, document_id))
        if passages and answer.question:
            score = max(passage.get("score", 0.0) for passage in passages)
            is_cited = any(passage.get("cited") for passage in passages)
            found.append(FoundQuestion(answer.question, answer.created_at, answer.conversation_id, score, is_cited))
    return found


def passages_of(
    passages: list[Mapping[str, Any]], store: str, collection: str, namespace: str | None, document_id: str
) -> Iterator[Mapping[str, Any]]:
    for passage in passages:
        place = passage.get("collection_name") or passage.get("index_name")
        chunk_of, _, number = str(passage.get("result_id", "")).rpartition("_chunk_")
        is_chunk = chunk_of == document_id and number.isdecimal()
        if (
            (passage.get("provider"), place) == (store, collection)
            and namespace in (None, passage.get("namespace", ""))
            and (is_chunk or passage.get("result_id") == document_id)
        ):
            yield passage
