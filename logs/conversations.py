"""Writing down a turn: its conversation, the question and the answer, in one transaction."""

from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from logs.models import Conversation, Message


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, and what identifies the conversation that it belongs to."""

    chatbot_id: int | None
    conversation_uuid: str
    question: str
    api_key_id: int | None = None
    user_id: int | None = None
    ip_address: str = ""
    source: Conversation.Source = Conversation.Source.API


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, or with which error it failed."""

    provider: str
    model: str
    text: str = ""
    error: str = ""
    usage: dict[str, Any] | None = None
    milliseconds: int = 0


def write_turn(turn: Turn, answer: Answer) -> None:
    """Append both messages. A conversation belongs to its bot and to whoever began it: no other's id leads into it."""
    try:
        _write_turn(turn, answer)
    except IntegrityError:
        # The bot or the key was deleted while the model was thinking. What was said is kept, without them.
        orphan = Turn(None, turn.conversation_uuid, turn.question, None, None, turn.ip_address, turn.source)
        _write_turn(orphan, answer)


@transaction.atomic
def _write_turn(turn: Turn, answer: Answer) -> None:
    now = timezone.now()
    owner = {
        "chatbot_id": turn.chatbot_id,
        "conversation_uuid": turn.conversation_uuid,
        "api_key_id": turn.api_key_id,
        "user_id": turn.user_id,
        "source": turn.source,
    }
    conversation_id = Conversation.objects.filter(**owner).values_list("pk", flat=True).first()
    changes = {"updated_at": now, "ip_address": turn.ip_address or None}
    if conversation_id is None:
        conversation_id = Conversation.objects.create(**owner, **changes, created_at=now, message_count=2).pk
    else:
        Conversation.objects.filter(pk=conversation_id).update(message_count=F("message_count") + 2, **changes)
    Message.objects.bulk_create(
        [
            Message(conversation_id=conversation_id, role=Message.Role.USER, content=turn.question, created_at=now),
            Message(
                conversation_id=conversation_id,
                role=Message.Role.BOT,
                content=answer.text or f"Error: {answer.error}",
                created_at=now,
                provider=answer.provider,
                model=answer.model,
                usage=answer.usage,
                milliseconds=answer.milliseconds,
                error=answer.error,
            ),
        ]
    )
