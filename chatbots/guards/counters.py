"""Message counters: count up to a limit in one SQL statement, which stays correct under concurrent workers."""

from django.db import connection

MINUTE = 60  # seconds

# Windows are fixed, such as a minute of the clock. Around its end a visitor can send twice as many messages within 60
# seconds, never more. A sliding window would need a row for each message.
COUNT = """
    INSERT INTO chatbots_messagecount (chatbot_id, subject, "window", count) VALUES (%s, %s, %s, 1)
    ON CONFLICT (chatbot_id, subject, "window") DO UPDATE SET count = chatbots_messagecount.count + 1
    WHERE chatbots_messagecount.count < %s
    RETURNING count
"""


def count_within_limit(chatbot_id: int, subject: str, window: int, limit: int) -> bool:
    """Count one more for the subject in the window and return True; return False if `limit` is reached."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [chatbot_id, subject, window, limit])
        return cursor.fetchone() is not None
