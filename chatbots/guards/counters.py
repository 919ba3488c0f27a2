"""Counting up to a limit, in one statement: no crowd of workers gets past it."""

from django.db import connection

from puffer.net import read_ip

MINUTE = 60  # seconds

# The windows are fixed: a minute is the clock's. Around its end a visitor can send twice as many within 60 seconds,
# never more; a window that slides would need a row for each message.
COUNT = """
    INSERT INTO chatbots_messagecount (chatbot_id, counted, "window", count) VALUES (%s, %s, %s, 1)
    ON CONFLICT (chatbot_id, counted, "window") DO UPDATE SET count = chatbots_messagecount.count + 1
    WHERE chatbots_messagecount.count < %s
    RETURNING count
"""


def has_room(chatbot_id: int, counted: str, window: int, limit: int) -> bool:
    """Whether one more was within the limit; if so, it is counted."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [chatbot_id, counted, window, limit])
        return cursor.fetchone() is not None


def network_of(address: str) -> str:
    """What one caller can't choose freely: an IPv4 address, or the 64 bits of an IPv6 network; "" if unknown.

    What has no address is not counted by it: otherwise all of a server behind a Unix socket were one.
    """
    ip = read_ip(address)
    if ip is None:
        return ""
    return f"address:{int(ip) >> 64:016x}/64" if ip.version == 6 else f"address:{ip}"
