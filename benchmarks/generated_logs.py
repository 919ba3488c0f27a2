"""Generated conversations for the benchmarks of the log: words of the frequency of a language, and rare marks."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np

WORDS = 40_000  # the n-th is about 1/n as frequent as the first (Zipf's law)
MESSAGES = 10  # per conversation
BATCH = 500  # conversations per transaction
BOTS = 4
IDENTIFIED_EVERY = 4  # every fourth visitor is identified by the embedding site
GREETING = "Thank you for asking. "
FAREWELL = " Let me know if there is anything else!"
SMILE = " \N{GRINNING FACE}"
TOKYO = "\u6771\u4eac"


def generated_word(number):
    word, number = "", number + 30
    while number:
        word += "bcdfghjklmnprstvwz"[number % 18]
        number //= 18
        word += "aeiou"[number % 5]
        number //= 5
    return word


class Texts:
    """Generated conversations, the same in every run."""

    def __init__(self):
        self.random = np.random.default_rng(1)
        self.words = np.array([generated_word(number) for number in range(WORDS)])
        frequencies = 1 / np.arange(1, WORDS + 1) ** 1.05
        self.share = (frequencies / frequencies.sum()).cumsum()

    def conversation(self, number):
        """Return messages: questions of 4 to 16 words, answers of 15 to 80, 150 characters on average."""
        lengths = np.empty(MESSAGES, int)
        lengths[::2] = self.random.integers(4, 17, MESSAGES // 2)
        lengths[1::2] = self.random.integers(15, 81, MESSAGES // 2)
        at = np.searchsorted(self.share, self.random.random(lengths.sum()))
        words = iter(self.words[np.minimum(at, WORDS - 1)])
        texts = [" ".join(next(words) for _ in range(length)) for length in lengths]
        texts[1] = GREETING + texts[1]
        texts[-1] += FAREWELL
        texts[2] += (
            (" half-way" if number % 2 == 0 else "")
            + (" D\u00e9j\u00e0 vu" if number % 10 == 3 else "")
            + (SMILE if number % 100 == 7 else "")
            + (TOKYO if number % 500 == 9 else "")
        )
        return texts


def build(count):
    """Fill the database, and return the seconds it took without those for the LIKE table."""
    from django.db import connection

    from chatbots.models import Chatbot
    from logs.models import Conversation, Message
    from logs.search import indexer, tables

    bots = [Chatbot.objects.create(name=f"Bot {number}") for number in range(BOTS)]
    texts, now, seconds = Texts(), datetime.now(UTC) - timedelta(days=30), 0.0
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE like_logs (id bigint PRIMARY KEY, bot_id bigint, visitor text, messages text)")
        cursor.execute("CREATE INDEX like_logs_bot ON like_logs (bot_id)")
        if connection.vendor == "postgresql":
            for searched in tables.SEARCHED:  # created again at the end, like in an import
                cursor.execute(f"DROP INDEX {searched.index}")
    for start in range(0, count, BATCH):
        batch = [texts.conversation(number) for number in range(start, min(start + BATCH, count))]
        begin = time.perf_counter()
        conversations = Conversation.objects.bulk_create(
            new_conversation(
                number, chatbot=bots[number % BOTS], created_at=now, updated_at=now, message_count=MESSAGES
            )
            for number in range(start, start + len(batch))
        )
        Message.objects.bulk_create(
            Message(
                conversation=conversation,
                role="bot" if at % 2 else "user",
                content=text,
                created_at=now,
                **({"provider": "openai", "model": "gpt-4o-mini", "usage": {"total_tokens": 99}} if at % 2 else {}),
            )
            for conversation, parts in zip(conversations, batch, strict=True)
            for at, text in enumerate(parts)
        )
        seconds += time.perf_counter() - begin
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO like_logs VALUES (%s, %s, %s, %s)",
                [
                    (row.pk, row.chatbot_id, row.session_id or row.external_name, like_text(parts))
                    for row, parts in zip(conversations, batch, strict=True)
                ],
            )
        if start % 20_000 == 0:
            print(f"{start:,} conversations", file=sys.stderr)
    begin = time.perf_counter()
    for searched in tables.SEARCHED:
        while indexer.index_batch(searched):
            pass
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            tables.create_trigram_indexes()
            cursor.execute("VACUUM ANALYZE")
        else:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return seconds + time.perf_counter() - begin


def new_conversation(number, **values):
    from logs.models import Conversation, new_uuid

    session = f"{number * 2654435761 % 2**32:08x}{number:08x}"
    if number % IDENTIFIED_EVERY == 0:
        name = f"Visitor {generated_word(number)}"
        values |= {"external_user_id": str(number), "external_name": name, "external_email": f"v{number}@example.com"}
    return Conversation(identity=new_uuid(), source="widget", session_id=session, **values)


def like_text(parts):
    return json.dumps(
        {
            "parent_id": "parent",
            "messages": [
                {
                    "message_id": f"m{at}",
                    "role": "bot" if at % 2 else "user",
                    "content": text,
                    "timestamp": 1_700_000_000,
                }
                for at, text in enumerate(parts)
            ],
        },
        ensure_ascii=False,
    )
