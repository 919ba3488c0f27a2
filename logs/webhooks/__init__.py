"""Signed events about chats, delivered to the site's own servers."""

from logs.webhooks.events import Event, Subscriber, active_subscribers, publish
from logs.webhooks.models import EventName

__all__ = [
    "Event",
    "EventName",
    "Subscriber",
    "active_subscribers",
    "publish",
]
