"""The writer of turns: the conversation, the question and the answer of each, many turns in one transaction."""

import hashlib
import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError, transaction
from django.utils import timezone

from logs.bulk_insert import insert
from logs.conversations.group_commit import GroupCommit
from logs.conversations.redaction import redact
from logs.models import Conversation, ConversationDailyTotal, Message, failure_text, new_message_id, new_uuid
from logs.usage.daily_totals import add, day_of
from logs.usage.prices import PriceBook
from logs.webhooks.events import Event, Subscriber, active_subscribers, publish
from logs.webhooks.models import EventName
from puffer.net import anonymized
from puffer.text import excerpt

logger = logging.getLogger(__name__)

VISITOR_LEFT = "The visitor left before the answer was complete."  # not counted as an error
MAX_LAST_MESSAGE = 200  # characters


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, the model's answer or its error, and the owner of the conversation."""

    question: str
    chatbot_id: int | None
    provider: str = ""
    model: str = ""
    reply: str = ""
    is_refusal: bool = False  # the reply is the chatbot's refusal text
    error: str = ""
    usage: dict[str, Any] | None = None
    passages: Sequence[dict[str, Any]] | None = None  # shown to the model; None without knowledge
    milliseconds: int = 0
    conversation_uuid: str = ""  # "" until log_turn() sets it
    begins: bool = False  # whether the conversation is new, so that no other process can know it
    api_key_id: int | None = None
    user_id: int | None = None
    session_id: str = ""  # of a widget's visitor, as the next three fields, which the embedding site has signed
    external_user_id: str = ""
    external_name: str = ""
    external_email: str = ""
    ip_address: str = ""
    source: Conversation.Source = Conversation.Source.API
    question_id: str = field(default_factory=new_message_id)
    reply_id: str = field(default_factory=new_message_id)
    question_redactions: dict[str, int] | None = None
    reply_redactions: dict[str, int] | None = None
    subscribers: Sequence[Subscriber] = ()  # the webhooks that may want its events
    searched_for: str = ""  # in addition to the question

    @property
    def total_tokens(self) -> int:
        return (self.usage or {}).get("total_tokens", 0)

    @property
    def has_failed(self) -> bool:
        return bool(self.error) and self.error != VISITOR_LEFT

    @property
    def is_unanswered(self) -> bool:
        """Return whether the answer was the refusal text, or no passage was found for the question."""
        return self.is_refusal or (self.passages is not None and not self.passages and not self.error)

    def call(self) -> dict[str, Any]:
        """Return the provider call as PriceBook.cost() takes it."""
        usage = self.usage or {}
        tokens_in, tokens_out = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        billed = max(tokens_out, self.total_tokens - tokens_in)  # reasoning tokens may be in the total only
        return {"provider": self.provider, "model": self.model, "input_tokens": tokens_in, "output_tokens": billed}

    def identity(self) -> str:
        """Return the key of the conversation, which belongs to its chatbot and owner: others can't reach it by UUID."""
        owner: tuple[Any, ...] = (
            self.chatbot_id,
            self.conversation_uuid,
            self.api_key_id,
            self.user_id,
            self.source.value,
        )
        if self.source == Conversation.Source.WIDGET:
            owner += ("user", self.external_user_id) if self.external_user_id else ("guest", self.session_id)
        return hashlib.sha256(repr(owner).encode()).hexdigest()


async def log_turn(turn: Turn) -> str:
    """Write a turn and return the conversation's UUID once it is stored."""
    if not turn.conversation_uuid:
        turn = replace(turn, conversation_uuid=new_uuid(), begins=True)
    if subscribers := await active_subscribers():
        turn = replace(turn, subscribers=subscribers)
    await _writer.put(turn)
    return turn.conversation_uuid


def write_turns(turns: Sequence[Turn]) -> None:
    """Write turns together; if the database refuses them, one by one."""
    turns = [without_personal_data(turn) for turn in turns]
    try:
        _write_turns(turns)
    except (IntegrityError, DataError, ValueError):
        for turn in turns:
            write_alone(turn)


def without_personal_data(turn: Turn) -> Turn:
    """Apply ANONYMIZE_IP and REDACT. The model and the limits have seen the original."""
    if settings.ANONYMIZE_IP:
        turn = replace(turn, ip_address=anonymized(turn.ip_address))
    if not settings.REDACT:
        return turn
    question, in_question = redact(turn.question, settings.REDACT)
    reply, in_reply = redact(turn.reply, settings.REDACT)
    error, in_error = redact(turn.error, settings.REDACT)
    return replace(
        turn,
        question=question,
        question_redactions=in_question or None,
        reply=reply,
        error=error,
        searched_for=redact(turn.searched_for, settings.REDACT)[0],
        reply_redactions=(in_reply if reply else in_error) or None,
    )


def write_alone(turn: Turn) -> None:
    """Write one turn of a refused group, so that a faulty turn affects no other."""
    try:
        _write_turns([turn])
    except IntegrityError:
        # A chatbot, a key or a user was deleted during the turn. The turn is kept without them.
        _write_turns([replace(turn, chatbot_id=None, api_key_id=None, user_id=None)])
    except (DataError, ValueError):
        logger.exception("a turn is not in the log: the database can't store it")


_writer = GroupCommit(write_turns)


# Add to the existing row, even if another worker inserts it at this moment. RETURNING gives the new message count.
ON_CONFLICT = """
    ON CONFLICT (identity) DO UPDATE SET
        updated_at = excluded.updated_at,
        ip_address = excluded.ip_address,
        message_count = logs_conversation.message_count + excluded.message_count,
        tokens = logs_conversation.tokens + excluded.tokens,
        provider = CASE excluded.provider WHEN '' THEN logs_conversation.provider ELSE excluded.provider END,
        has_error = logs_conversation.has_error OR excluded.has_error,
        has_unanswered = logs_conversation.has_unanswered OR excluded.has_unanswered,
        last_message = excluded.last_message
    RETURNING identity, id, message_count
"""


@transaction.atomic
def _write_turns(turns: Sequence[Turn]) -> None:
    now = timezone.now()
    by_identity: dict[str, list[Turn]] = {}
    for turn in turns:
        by_identity.setdefault(turn.identity(), []).append(turn)
    rows = {identity: conversation_row(identity, parts, now) for identity, parts in by_identity.items()}
    begun = [row for identity, row in rows.items() if by_identity[identity][-1].begins]
    # In the same order in every process, so that no two writers deadlock.
    others = [rows[identity] for identity in sorted(rows) if not by_identity[identity][-1].begins]
    ids, new = {}, set()
    for identity, pk, message_count in insert([*begun, *others], ON_CONFLICT):
        ids[identity] = pk
        if message_count == rows[identity].message_count:
            new.add(identity)
    # A conversation's messages one after another, so that the search indexes them as one text.
    in_order = [(pk, turn) for identity, pk in sorted(ids.items(), key=itemgetter(1)) for turn in by_identity[identity]]
    prices = PriceBook()
    insert(message for pk, turn in in_order for message in messages_of(turn, pk, now, prices))
    add_turns(by_identity, new, now)
    publish((turn.subscribers, event) for pk, turn in in_order for event in events_of(turn, pk))


def add_turns(by_identity: Mapping[str, Sequence[Turn]], new: Container[str], now: datetime) -> None:
    """Add turns to the daily totals."""
    today = day_of(now)
    sums: dict[tuple[Any, ...], dict[str, int]] = {}
    for identity, turns in by_identity.items():
        for number, turn in enumerate(turns):
            dimensions = (today, turn.chatbot_id, turn.api_key_id, turn.provider, turn.model)
            measures = sums.setdefault(dimensions, dict.fromkeys(ConversationDailyTotal.measures, 0))
            measures["messages"] += 2
            measures["conversations"] += number == 0 and identity in new
    add(ConversationDailyTotal, sums)


def conversation_row(identity: str, turns: Sequence[Turn], now: datetime) -> Conversation:
    """Return the conversation as if these were its only turns; ON_CONFLICT adds it to an existing row."""
    turn = turns[-1]
    return Conversation(
        identity=identity,
        chatbot_id=turn.chatbot_id,
        conversation_uuid=turn.conversation_uuid,
        api_key_id=turn.api_key_id,
        user_id=turn.user_id,
        source=turn.source,
        session_id=turn.session_id or None,
        external_user_id=turn.external_user_id,
        external_name=turn.external_name,
        external_email=turn.external_email,
        ip_address=turn.ip_address or None,
        message_count=2 * len(turns),
        tokens=sum(part.total_tokens for part in turns),
        provider=next((part.provider for part in reversed(turns) if part.provider), ""),
        has_error=any(part.has_failed for part in turns),
        has_unanswered=any(part.is_unanswered for part in turns),
        last_message=excerpt(turn.reply or failure_text(turn.error), MAX_LAST_MESSAGE),
        created_at=now,
        updated_at=now,
    )


def messages_of(turn: Turn, conversation_id: int, now: datetime, prices: PriceBook) -> list[Message]:
    return [
        Message(
            conversation_id=conversation_id,
            message_id=turn.question_id,
            role=Message.Role.USER,
            content=turn.question,
            redactions=turn.question_redactions,
            created_at=now,
        ),
        Message(
            conversation_id=conversation_id,
            message_id=turn.reply_id,
            role=Message.Role.BOT,
            content=turn.reply or failure_text(turn.error),
            redactions=turn.reply_redactions,
            created_at=now,
            provider=turn.provider,
            model=turn.model,
            usage=turn.usage,
            cost=prices.cost(turn.call()) if turn.usage else None,
            milliseconds=turn.milliseconds,
            error=turn.error,
            passages=turn.passages,
            searched_for=turn.searched_for,
        ),
    ]


def visitor_key(session_id: str, external_user_id: str) -> str:
    """Return the key of a visitor of the widget: at most 70 characters, unique to the person."""
    kind, name = ("user", external_user_id) if external_user_id else ("guest", session_id)
    return f"{kind}:{hashlib.sha256(name.encode()).hexdigest()}"


def event_about(turn: Turn, name: EventName, data: dict[str, Any], conversation_id: int | None = None) -> Event:
    """Return an event with the turn's visitor, conversation and chatbot."""
    return Event(
        name=name,
        chatbot_id=turn.chatbot_id,
        data=data,
        source=turn.source,
        session_id=turn.session_id,
        external_user_id=turn.external_user_id,
        visitor_key=visitor_key(turn.session_id, turn.external_user_id) if turn.session_id else "",
        conversation_id=conversation_id,
        conversation_uuid=turn.conversation_uuid,
    )


def events_of(turn: Turn, conversation_id: int) -> Iterator[Event]:
    """Yield the events of the question and of the answer. A turn that failed has no answer."""
    if not turn.subscribers:
        return
    question = {"message_id": turn.question_id, "text": turn.question}
    yield event_about(turn, EventName.USER_MESSAGE, question, conversation_id)
    if turn.reply:
        reply = {
            "message_id": turn.reply_id,
            "question_id": turn.question_id,
            "text": turn.reply,
            "is_complete": not turn.error,
            "provider": turn.provider,
            "model": turn.model,
            "usage": turn.usage,
            "milliseconds": turn.milliseconds,
        }
        yield event_about(turn, EventName.RESPONSE, reply, conversation_id)
