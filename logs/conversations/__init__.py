"""Write, read, export and redact conversations, and delete old ones."""

from logs.conversations.export import export
from logs.conversations.found_questions import FoundQuestion, questions_that_found
from logs.conversations.history import (
    MAX_CONVERSATIONS,
    as_prompt,
    conversations_of,
    read_messages,
    short_title,
    store_feedback,
)
from logs.conversations.redaction import REDACTION_KINDS, redact
from logs.conversations.writer import MAX_LAST_MESSAGE, VISITOR_LEFT, Turn, event_about, log_turn, visitor_key

__all__ = [
    "MAX_CONVERSATIONS",
    "MAX_LAST_MESSAGE",
    "REDACTION_KINDS",
    "VISITOR_LEFT",
    "FoundQuestion",
    "Turn",
    "as_prompt",
    "conversations_of",
    "event_about",
    "export",
    "log_turn",
    "questions_that_found",
    "read_messages",
    "redact",
    "short_title",
    "store_feedback",
    "visitor_key",
]
