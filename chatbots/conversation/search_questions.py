"""What is searched for: the visitor's message, and the message with what it may refer to."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from chatbots.conversation.citations import without_marks
from puffer.text import without_control_characters

MAX_CONTEXT = 500  # characters of an earlier message
MAX_QUESTION = 1000  # characters of a message that may need context; a longer one says enough by itself
# The end of a sentence, in any script that has one.
SENTENCE = re.compile(r"(?<=[.!?\u061f\u3002\uff01\uff1f])\s+|\n+|(?<=[\u3002\uff01\uff1f])")


def search_questions(history: Sequence[Mapping[str, Any]], question: str) -> list[str]:
    """Return the question; and, in a conversation, also the question after what it may refer to.

    That is the visitor's previous message ("And the glass one?"), and the question with which the reply to it ended
    ("Yes, please").
    """
    from_visitor = (start_of(message["content"]) for message in reversed(history) if message["role"] == "user")
    previous = next(filter(None, from_visitor), "")
    if not previous or len(question) > MAX_QUESTION:
        return [question]
    context = [previous, offer_in(history), question]
    return [question, "\n".join(filter(None, context))]


def offer_in(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the question to which the visitor replies, or ""."""
    return closing_question(history[-1]["content"]) if history and history[-1]["role"] == "assistant" else ""


def closing_question(reply: str) -> str:
    """Return the question with which a reply ends, or ""."""
    end = without_marks(reply[-2 * MAX_CONTEXT :]).strip()
    sentences = [sentence for sentence in SENTENCE.split(end) if sentence.strip()]
    last = sentences[-1].strip() if sentences else ""
    return start_of(last) if last.endswith(("?", "\u061f", "\uff1f")) else ""


def start_of(text: str) -> str:
    return without_control_characters(text[: 2 * MAX_CONTEXT]).strip()[:MAX_CONTEXT]
