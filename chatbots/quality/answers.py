"""Correct what a chatbot said: store the right answer in its knowledge, and ask the question again.

a logged reply -> the right answer as a document -> the question is settled -> the new reply
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone

from chatbots.conversation.knowledge import knowledge_of
from chatbots.conversation.trace import TracedTurn, trace_turn
from chatbots.conversation.visitor import Visitor
from chatbots.models import Chatbot, SettledQuestion
from chatbots.quality.unanswered import digest_of
from logs.conversations import as_prompt
from logs.models import Message
from providers.run_async import run_async
from vectorstores.documents import delete_documents, parent_id_of
from vectorstores.ingestion import Destination, ingest, make_document
from vectorstores.models import Document
from vectorstores.registry import STORES
from vectorstores.sources import ANSWERED, answer_item


@dataclass(frozen=True, slots=True)
class LoggedReply:
    """A reply from the log, the question it answers, and what was said before."""

    question: str
    message: Message
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage from the log, with its document if that still exists."""

    logged: Mapping[str, Any]
    document_id: str
    document: Document | None


def logged_reply(bot: Chatbot, message_id: str) -> LoggedReply | None:
    """Return a reply of the chatbot by its id in the log; None if the log has no such reply."""
    reply = Message.objects.filter(
        message_id=message_id, role=Message.Role.BOT, conversation__chatbot=bot
    ).select_related("conversation")
    message = reply.first()
    if message is None:
        return None
    earlier = Message.objects.filter(conversation=message.conversation, pk__lt=message.pk).order_by("-pk")
    before = list(earlier[: bot.max_messages + 1])[::-1]
    if not before or before[-1].role != Message.Role.USER:
        return None
    return LoggedReply(before[-1].content, message, as_prompt(before[:-1]))


def found_passages(message: Message) -> list[FoundPassage]:
    """Return what the chatbot found for a logged reply."""
    logged: list[dict[str, Any]] = message.passages or []
    ids = [parent_id_of(str(passage.get("result_id", "")), passage) for passage in logged]
    documents: dict[tuple[Any, ...], Document] = {
        (document.collection.store, document.collection.name, document.namespace, document.parent_vector_id): document
        for document in Document.objects.filter(parent_vector_id__in=ids).select_related("collection")
    }
    found = []
    for passage, document_id in zip(logged, ids, strict=True):
        store = str(passage.get("provider"))
        name = passage.get("collection_name") or passage.get("index_name")
        namespace = passage.get("namespace", "") if store in STORES and STORES[store].has_namespaces else ""
        found.append(FoundPassage(passage, document_id, documents.get((store, name, namespace, document_id))))
    return found


def earlier_answers(bot: Chatbot, digests: Iterable[str], question: str) -> QuerySet[Document]:
    """Return the answers that were stored for these questions before, or for a question in the same words."""
    settled = SettledQuestion.objects.filter(chatbot=bot, digest__in=digests).exclude(document_id="")
    ids = [answer_item(question, "")["id"], *settled.values_list("document_id", flat=True)]
    return Document.objects.filter(
        collection__store=bot.vector_store_provider,
        collection__name__in=bot.collections,
        namespace=bot.namespace if STORES[bot.vector_store_provider].has_namespaces else "",
        origin=ANSWERED,
        parent_vector_id__in=ids,
    ).select_related("collection")


def add_answer(bot: Chatbot, collection: str, question: str, answer: str, url: str = "") -> str:
    """Add or replace the answer to a question in a collection, and return its document's id. Raise ApiError."""
    return run_async(lambda: store_answer(bot, collection, question, answer, url))


async def store_answer(bot: Chatbot, collection: str, question: str, answer: str, url: str) -> str:
    """Store the answer as a document whose id depends only on the question, so that a second answer replaces it."""
    knowledge = await knowledge_of(bot)
    destination = Destination(
        knowledge.store, collection, knowledge.embedding_provider, knowledge.embedding_model, knowledge.namespace
    )
    item = answer_item(question, answer, url)
    document = make_document(item, destination, source=ANSWERED, origin=ANSWERED)
    async for _ in ingest([document], destination):
        pass
    return document.parent_id


def settle(bot: Chatbot, digests: Iterable[str], user: User, document_id: str = "") -> None:
    """Take the questions off the list, as answered by a document or, without one, as dismissed."""
    now = timezone.now()
    SettledQuestion.objects.bulk_create(
        [
            SettledQuestion(chatbot=bot, digest=digest, user=user, document_id=document_id, settled_at=now)
            for digest in dict.fromkeys(digests)
        ],
        update_conflicts=True,
        unique_fields=["chatbot", "digest"],
        update_fields=["user", "document_id", "settled_at"],
    )


def delete_replaced(earlier: Sequence[Document], collection: str, document_id: str) -> list[str]:
    """Delete earlier answers unless they are the new one or still answer other questions. Return what failed."""
    replaced = [
        document
        for document in earlier
        if (document.collection.name, document.parent_vector_id) != (collection, document_id)
        and (document.parent_vector_id == document_id or not answers_others(document))
    ]
    return [failure.reason for failure in run_async(lambda: delete_documents(replaced))] if replaced else []


def answers_others(document: Document) -> bool:
    """Return whether a question in other words than the document's title is settled by it."""
    settled = SettledQuestion.objects.filter(document_id=document.parent_vector_id)
    return settled.exclude(digest=digest_of(document.title)).exists()


def ask_again(bot: Chatbot, question: str, history: Sequence[Mapping[str, Any]], visitor: Visitor) -> TracedTurn:
    """Ask a question with the chatbot's saved settings, and log the turn."""
    return run_async(lambda: trace_turn(bot, question, history=history, visitor=visitor))
