"""A visitor's history: their own conversations, and their ratings of answers."""

from collections.abc import Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery

from logs.conversations.writer import Turn, event_about
from logs.models import Conversation, Feedback, Message
from logs.webhooks.events import Subscriber, active_subscribers, publish
from logs.webhooks.models import EventName

MAX_CONVERSATIONS = 50
MAX_MESSAGES = 200
TITLE_WORDS = 5


async def read_messages(owner: Turn, limit: int = MAX_MESSAGES) -> list[Message] | None:
    """Return the last messages of the owner's conversation, oldest first; None if it does not exist."""
    conversation = await Conversation.objects.filter(identity=owner.identity()).only("pk").afirst()
    if conversation is None:
        return None
    newest_first = Message.objects.filter(conversation=conversation).order_by("-id")[:limit]
    return [message async for message in newest_first][::-1]


def conversations_of(owner: Turn) -> QuerySet[Conversation]:
    """Return the owner's conversations in the widget, the newest first, with the first question as `title`."""
    owned: dict[str, Any] = {"chatbot_id": owner.chatbot_id, "external_user_id": owner.external_user_id}
    if not owner.external_user_id:
        owned["session_id"] = owner.session_id
    first_question = Message.objects.filter(conversation=OuterRef("pk"), role=Message.Role.USER).order_by("id")
    found = Conversation.objects.filter(source=owner.source, **owned)
    return found.annotate(title=Subquery(first_question.values("content")[:1])).order_by("-updated_at", "-id")


def short_title(question: str | None) -> str:
    words = (question or "").split()
    return " ".join(words[:TITLE_WORDS])[:80] + ("…" if len(words) > TITLE_WORDS else "")


def as_prompt(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return the messages for a model, without failed turns."""
    prompt: list[dict[str, str]] = []
    for message in messages:
        if message.role == Message.Role.USER:
            prompt.append({"role": "user", "content": message.content})
        elif message.is_failure:
            if prompt and prompt[-1]["role"] == "user":
                prompt.pop()
        else:
            prompt.append({"role": "assistant", "content": message.content})
    return prompt


async def store_feedback(owner: Turn, message_id: str, feedback: str) -> bool:
    """Rate an answer; "" removes the rating. Return False if the owner's conversation has no such answer."""
    return await sync_to_async(_store_feedback)(owner, message_id, feedback, await active_subscribers())


@transaction.atomic
def _store_feedback(owner: Turn, message_id: str, feedback: str, subscribers: Sequence[Subscriber]) -> bool:
    # Locked, so that the second of two concurrent ratings sees the first.
    conversation = Conversation.objects.select_for_update().filter(identity=owner.identity()).first()
    answers = Message.objects.filter(conversation=conversation, role=Message.Role.BOT)
    if conversation is None or not answers.filter(message_id=message_id).update(feedback=feedback):
        return False
    ratings = set(answers.exclude(feedback="").values_list("feedback", flat=True))
    conversation.rating = Feedback.DOWN if Feedback.DOWN in ratings else "".join(ratings)
    conversation.save(update_fields=["rating"])
    data = {"message_id": message_id, "feedback": feedback or "none"}
    publish([(subscribers, event_about(owner, EventName.FEEDBACK, data, conversation.pk))])
    return True
