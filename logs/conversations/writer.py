"""Writing turns down: the conversation, the question and the answer of each, many turns in one transaction."""

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

VISITOR_LEFT = "The visitor left before the answer was complete."  # for the log an error, for its reader none
MAX_LAST_MESSAGE = 200  # characters


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, what the model said or with which error it failed, and whose conversation it belongs to."""

    question: str
    chatbot_id: int | None
    provider: str = ""
    model: str = ""
    reply: str = ""
    is_refusal: bool = False  # the reply is the text for what the chatbot can't answer
    error: str = ""
    usage: dict[str, Any] | None = None
    passages: Sequence[dict[str, Any]] | None = None  # shown to the model; None where there is no knowledge
    milliseconds: int = 0
    conversation_uuid: str = ""  # "" before log_turn() has given it one
    begins: bool = False  # a conversation that nobody else can know
    api_key_id: int | None = None
    user_id: int | None = None
    session_id: str = ""  # of a widget's visitor, as the next three, which the embedding site has signed
    external_user_id: str = ""
    external_name: str = ""
    external_email: str = ""
    ip_address: str = ""
    source: Conversation.Source = Conversation.Source.API
    question_id: str = field(default_factory=new_message_id)
    reply_id: str = field(default_factory=new_message_id)
    question_redactions: dict[str, int] | None = None
    reply_redactions: dict[str, int] | None = None
    subscribers: Sequence[Subscriber] = ()  # the webhooks that may want to hear of it

    @property
    def total_tokens(self) -> int:
        return (self.usage or {}).get("total_tokens", 0)

    @property
    def has_failed(self) -> bool:
        return bool(self.error) and self.error != VISITOR_LEFT

    @property
    def is_unanswered(self) -> bool:
        """The refusal was the answer, or nothing in the knowledge was near enough to the question."""
        return self.is_refusal or (self.passages is not None and not self.passages and not self.error)

    def call(self) -> dict[str, Any]:
        """What a usage event would publish of it, for its price."""
        usage = self.usage or {}
        tokens_in, tokens_out = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        thought = max(tokens_out, self.total_tokens - tokens_in)
        return {"provider": self.provider, "model": self.model, "input_tokens": tokens_in, "output_tokens": thought}

    def identity(self) -> str:
        """A conversation belongs to its bot and to whoever began it: no other's id leads into it."""
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
    """Write it down; the conversation's uuid, once it is stored."""
    if not turn.conversation_uuid:
        turn = replace(turn, conversation_uuid=new_uuid(), begins=True)
    if subscribers := await active_subscribers():
        turn = replace(turn, subscribers=subscribers)
    await _writer.put(turn)
    return turn.conversation_uuid


def write_turns(turns: Sequence[Turn]) -> None:
    turns = [as_kept(turn) for turn in turns]
    try:
        _write_turns(turns)
    except (IntegrityError, DataError, ValueError):
        for turn in turns:
            write_alone(turn)


def as_kept(turn: Turn) -> Turn:
    """Without what the settings keep out of the log. The model and the limits have seen all of it."""
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
        reply_redactions=(in_reply if reply else in_error) or None,
    )


def write_alone(turn: Turn) -> None:
    """One of a group that the database refused as a whole, so that what is wrong with it concerns no other."""
    try:
        _write_turns([turn])
    except IntegrityError:
        # A bot or a key was deleted while its model was thinking. What was said is kept, without them.
        _write_turns([replace(turn, chatbot_id=None, api_key_id=None, user_id=None)])
    except (DataError, ValueError):
        logger.exception("a turn is not in the log: the database can't hold it")


_writer = GroupCommit(write_turns)


# The row that is there goes on, also if another worker makes it at this moment. RETURNING counts those messages too.
CONTINUE = """
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
    # In one order for all, so that no two writers wait for each other.
    others = [rows[identity] for identity in sorted(rows) if not by_identity[identity][-1].begins]
    ids, new = {}, set()
    for identity, pk, message_count in insert([*begun, *others], CONTINUE):
        ids[identity] = pk
        if message_count == rows[identity].message_count:
            new.add(identity)
    # A conversation's messages together and in this order, for then the search index takes them in one go.
    in_order = [(pk, turn) for identity, pk in sorted(ids.items(), key=itemgetter(1)) for turn in by_identity[identity]]
    prices = PriceBook()
    insert(message for pk, turn in in_order for message in messages_of(turn, pk, now, prices))
    add_turns(by_identity, new, now)
    publish((turn.subscribers, event) for pk, turn in in_order for event in events_of(turn, pk))


def add_turns(by_identity: Mapping[str, Sequence[Turn]], new: Container[str], now: datetime) -> None:
    """To the sums of the day."""
    today = day_of(now)
    sums: dict[tuple[Any, ...], dict[str, int]] = {}
    for identity, turns in by_identity.items():
        for number, turn in enumerate(turns):
            place = (today, turn.chatbot_id, turn.api_key_id, turn.provider, turn.model)
            measures = sums.setdefault(place, dict.fromkeys(ConversationDailyTotal.measures, 0))
            measures["messages"] += 2
            measures["conversations"] += number == 0 and identity in new
    add(ConversationDailyTotal, sums)


def conversation_row(identity: str, turns: Sequence[Turn], now: datetime) -> Conversation:
    """As these turns alone make it."""
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
        ),
    ]


def visitor_key(session_id: str, external_user_id: str) -> str:
    """What a visitor of the widget is found by: at most 70 characters, and the same for the same person alone."""
    kind, name = ("user", external_user_id) if external_user_id else ("guest", session_id)
    return f"{kind}:{hashlib.sha256(name.encode()).hexdigest()}"


def event_about(turn: Turn, name: EventName, data: dict[str, Any], conversation_id: int | None = None) -> Event:
    """Of the turn's visitor, conversation and chatbot."""
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
    """The question, and the answer if there was any: a failure of the provider is none."""
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
