"""Writing turns down: the conversation, the question and the answer of each, many turns in one transaction."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from logs.group_commit import GroupCommit
from logs.models import Conversation, Message, new_uuid


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, what the model said or with which error it failed, and whose conversation it belongs to."""

    question: str
    chatbot_id: int | None
    provider: str
    model: str
    reply: str = ""
    error: str = ""
    usage: dict[str, Any] | None = None
    milliseconds: int = 0
    conversation_uuid: str = ""  # "" begins a new one
    api_key_id: int | None = None
    user_id: int | None = None
    ip_address: str = ""
    source: Conversation.Source = Conversation.Source.API

    def identity(self) -> str:
        """A conversation belongs to its bot and to whoever began it: no other's id leads into it."""
        owner = (self.chatbot_id, self.conversation_uuid, self.api_key_id, self.user_id, self.source.value)
        return hashlib.sha256(repr(owner).encode()).hexdigest()


async def log_turn(turn: Turn) -> str:
    """Write it down; the conversation's uuid, once it is stored."""
    if not turn.conversation_uuid:
        turn = replace(turn, conversation_uuid=new_uuid())
    await _writer.put(turn)
    return turn.conversation_uuid


def write_turns(turns: Sequence[Turn]) -> None:
    try:
        _write_turns(turns)
    except IntegrityError:
        # A bot or a key was deleted while its model was thinking. What was said is kept, without them.
        for turn in turns:
            try:
                _write_turns([turn])
            except IntegrityError:
                _write_turns([replace(turn, chatbot_id=None, api_key_id=None, user_id=None)])


_writer = GroupCommit(write_turns)


@transaction.atomic
def _write_turns(turns: Sequence[Turn]) -> None:
    now = timezone.now()
    by_identity = {turn.identity(): turn for turn in turns}
    Conversation.objects.bulk_create(
        [
            Conversation(
                identity=identity,
                chatbot_id=turn.chatbot_id,
                conversation_uuid=turn.conversation_uuid,
                api_key_id=turn.api_key_id,
                user_id=turn.user_id,
                source=turn.source,
                created_at=now,
            )
            for identity, turn in by_identity.items()
        ],
        ignore_conflicts=True,  # those that exist are continued, also if another worker makes them at this moment
    )
    ids = dict(Conversation.objects.filter(identity__in=by_identity).values_list("identity", "pk"))
    if len(ids) < len(by_identity):
        raise IntegrityError("a conversation could not be made")  # ignore_conflicts hides a missing bot or key
    Message.objects.bulk_create(message for turn in turns for message in messages_of(turn, ids[turn.identity()], now))
    for identity, count in Counter(turn.identity() for turn in turns).items():
        Conversation.objects.filter(pk=ids[identity]).update(
            message_count=F("message_count") + 2 * count,
            updated_at=now,
            ip_address=by_identity[identity].ip_address or None,
        )


def messages_of(turn: Turn, conversation_id: int, now: Any) -> list[Message]:
    return [
        Message(conversation_id=conversation_id, role=Message.Role.USER, content=turn.question, created_at=now),
        Message(
            conversation_id=conversation_id,
            role=Message.Role.BOT,
            content=turn.reply or f"Error: {turn.error}",
            created_at=now,
            provider=turn.provider,
            model=turn.model,
            usage=turn.usage,
            milliseconds=turn.milliseconds,
            error=turn.error,
        ),
    ]
