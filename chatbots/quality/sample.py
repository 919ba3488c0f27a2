"""A random sample of visitors' questions from the log, and the conversations in which they were asked.

A question is in the sample or not by a digest of the seed and its id. So the same seed draws the same questions again,
and new questions in the log replace few of them: runs can be compared.
"""

import hashlib
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from chatbots.conversation.small_talk import is_small_talk
from chatbots.models import Chatbot, GoldenResult
from chatbots.quality.unanswered import digest_of
from logs.conversations import as_prompt, redact
from logs.models import Conversation, Message
from puffer.text import is_blank

MAX_SAMPLE = 200
MAX_CANDIDATES = 100_000  # the newest questions
MAX_EARLIER = 20  # messages of a conversation before the question
BATCH = 100


def sampled_questions(bot: Chatbot, size: int, days: int, seed: int) -> list[Message]:
    """Return up to `size` questions that visitors and API callers asked in the last days: each once, no small talk."""
    questions: dict[str, Message] = {}
    for message in candidates(bot, days, seed) if size else ():
        if is_blank(message.content) or is_small_talk(message.content):
            continue
        questions.setdefault(digest_of(message.content), message)
        if len(questions) == size:
            break
    return list(questions.values())


def candidates(bot: Chatbot, days: int, seed: int) -> Iterator[Message]:
    """Yield the questions in the order of the seed."""
    asked = (
        Message.objects.filter(
            conversation__chatbot=bot.pk,
            role=Message.Role.USER,
            created_at__gte=timezone.now() - timedelta(days=days),
        )
        .exclude(conversation__source=Conversation.Source.PREVIEW)
        .order_by("-pk")
        .values_list("message_id", flat=True)
    )
    ids = sorted(asked[:MAX_CANDIDATES], key=lambda message_id: position_of(message_id, seed))
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        found = {message.message_id: message for message in Message.objects.filter(message_id__in=batch)}
        yield from (found[message_id] for message_id in batch if message_id in found)


def position_of(message_id: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{message_id}".encode(), digest_size=16).digest()


async def earlier_messages(result: GoldenResult) -> list[dict[str, str]]:
    """Return the conversation before a visitor's question, as a prompt's history; [] for a golden question."""
    if not result.message_id:
        return []
    question = await Message.objects.filter(message_id=result.message_id).only("pk", "conversation").afirst()
    if question is None:
        return []
    before = Message.objects.filter(conversation=question.conversation_id, pk__lt=question.pk).order_by("-pk")
    messages = [message async for message in before[:MAX_EARLIER]][::-1]
    return [said | {"content": redacted(said["content"])} for said in as_prompt(messages)]


def redacted(text: str) -> str:
    """Redact a text as the log does now, though it may have been logged before that was set up."""
    return redact(text, settings.REDACT)[0] if settings.REDACT else text
