"""The export of conversations, in constant memory: CSV with a line per message, JSON with a line per conversation.

ids -> conversations by the hundred -> their messages by the thousand -> lines -> pieces of a file
"""

import csv
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import orjson
from django.db.models import Q, QuerySet

from logs.models import Conversation, Message

CONVERSATION_BATCH, MESSAGE_BATCH = 100, 1000
PIECE = 64 * 1024  # bytes
# The columns of AI Puffer's export, in its order.
COLUMNS = [
    "Conversation Parent ID",
    "Message ID",
    "Conversation UUID",
    "Bot Name",
    "User ID",
    "User Name",
    "Guest Session ID",
    "Message Timestamp",
    "Message Role",
    "Message Content",
    "AI Provider",
    "AI Model",
    "IP Address",
    "Feedback",
    "Input Tokens",
    "Output Tokens",
    "Total Tokens",
    "Usage Details JSON",
]
# Beginnings that a spreadsheet takes for a formula. Source: https://owasp.org/www-community/attacks/CSV_Injection
# A cell may also begin within a text: many spreadsheets separate cells by semicolons or tabs, and then take neither a
# quotation mark within a cell for one, nor a line break.
CELL_START = re.compile(r"""((?:\A|[;\t\r\n])[\s;"]*+)([=+\-@＝＋－＠])?""")
STARTS_A_CELL = tuple("\t\r\n")

WithMessages = Iterable[tuple[Conversation, Iterable[Message]]]
OnProgress = Callable[[], object]


def export(
    conversations: QuerySet[Conversation], file_format: str, on_progress: OnProgress = lambda: None
) -> Iterator[bytes]:
    """Yield the file in pieces, with no query open between two of them. Call `on_progress` for each conversation."""
    lines = FORMATS[file_format](with_messages(conversations, on_progress))
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def with_messages(conversations: QuerySet[Conversation], on_progress: OnProgress) -> WithMessages:
    """Yield conversations with their messages; in each batch those without messages come last.

    All ids are read at the beginning, eight bytes each.
    """
    ids = array("q", conversations.order_by("pk").values_list("pk", flat=True).iterator())
    for start in range(0, len(ids), CONVERSATION_BATCH):
        batch = ids[start : start + CONVERSATION_BATCH]
        found = Conversation.objects.select_related("chatbot", "user", "api_key").in_bulk(batch.tolist())
        for pk, messages in groupby(messages_of(batch), key=lambda message: message.conversation_id):
            yield found.pop(pk), messages
            on_progress()
        for conversation in found.values():
            yield conversation, ()
            on_progress()


def messages_of(conversation_ids: Sequence[int]) -> Iterator[Message]:
    messages = Message.objects.filter(conversation_id__in=conversation_ids).order_by("conversation_id", "id")
    following: QuerySet[Message] = messages
    while batch := list(following[:MESSAGE_BATCH]):
        yield from batch
        if len(batch) < MESSAGE_BATCH:
            return
        last = batch[-1]
        same = Q(conversation_id=last.conversation_id, id__gt=last.pk)
        following = messages.filter(same | Q(conversation_id__gt=last.conversation_id))


# CSV


class Echo:
    """A file for csv.writer whose write() returns the line."""

    def write(self, line: str) -> str:
        return line


def csv_lines(conversations: WithMessages) -> Iterator[bytes]:
    line_of = csv.writer(Echo()).writerow
    yield line_of(COLUMNS).encode()
    for conversation, messages in conversations:
        for message in messages:
            yield line_of(map(escaped, row(conversation, message))).encode()


def escaped(value: Any) -> Any:
    """Put an apostrophe before each part of a text that a spreadsheet could take for a formula."""
    if not isinstance(value, str):
        return value
    marked = CELL_START.sub(lambda start: f"{start[1]}'{start[2]}" if start[2] else start[0], value)
    return f"'{marked}" if value.startswith(STARTS_A_CELL) else marked


def row(conversation: Conversation, message: Message) -> list[Any]:
    usage = message.usage or {}
    return [
        conversation.pk,
        message.message_id,
        conversation.conversation_uuid,
        conversation.bot_name,
        conversation.external_user_id or conversation.user_id,
        conversation.visitor_name,
        conversation.session_id,
        f"{message.created_at:%Y-%m-%d %H:%M:%S}",
        message.role,
        message.content,
        message.provider,
        message.model,
        conversation.ip_address,
        message.feedback,
        usage.get("input_tokens"),
        usage.get("output_tokens"),
        usage.get("total_tokens"),
        orjson.dumps(usage).decode() if usage else "",
    ]


# JSON lines


def json_lines(conversations: WithMessages) -> Iterator[bytes]:
    """Yield each conversation in parts, because all of its messages may not fit into memory."""
    for conversation, messages in conversations:
        yield orjson.dumps(conversation_json(conversation))[:-1] + b',"messages":['
        for number, message in enumerate(messages):
            yield (b"," if number else b"") + orjson.dumps(message_json(message))
        yield b"]}\n"


def conversation_json(conversation: Conversation) -> dict[str, Any]:
    user = conversation.user
    return {
        "id": conversation.pk,
        "conversation_uuid": conversation.conversation_uuid,
        "bot_id": conversation.chatbot_id,
        "bot_name": conversation.bot_name,
        "source": conversation.source,
        "api_key": conversation.api_key and conversation.api_key.name,
        "user_id": conversation.user_id,
        "user_name": user and user.get_username(),
        "user_email": user and user.email,
        "external_user_id": conversation.external_user_id,
        "external_name": conversation.external_name,
        "external_email": conversation.external_email,
        "session_id": conversation.session_id,
        "ip_address": conversation.ip_address,
        "created_at": conversation.created_at,
        "updated_at": conversation.updated_at,
    }


def message_json(message: Message) -> dict[str, Any]:
    known: dict[str, Any] = {
        "message_id": message.message_id,
        "role": message.role,
        "content": message.content,
        "created_at": message.created_at,
        "redactions": message.redactions,
    }
    if message.role == Message.Role.BOT:
        known |= {
            "provider": message.provider,
            "model": message.model,
            "usage": message.usage,
            "milliseconds": message.milliseconds,
            "error": message.error,
            "feedback": message.feedback,
            "passages": message.passages,
            "searched_for": message.searched_for,
        }
    return known


FORMATS = {"csv": csv_lines, "jsonl": json_lines}
