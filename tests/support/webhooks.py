"""Webhook deliveries in tests: queued, due and sent."""

import json
import uuid

from django.core.management import call_command

from logs.conversations.writer import Turn
from logs.webhooks.events import subscriber_of
from logs.webhooks.models import EventName, WebhookDelivery
from tests.support.repository import ROOT

DOCUMENT = (ROOT / "docs" / "webhooks.md").read_text()


HOST = "127.0.0.1"  # the test receiver's address


def run_worker():
    call_command("worker", once=True)


def queue(webhook, count=1, **values):
    """Create `count` deliveries of an arbitrary event."""
    payload = json.dumps({"text": "Grüße"})
    defaults = {"webhook": webhook, "event": EventName.USER_MESSAGE, "payload": payload}
    return [WebhookDelivery.objects.create(**defaults | {"event_id": uuid.uuid4()} | values) for _ in range(count)]


def turn_for(webhook, bot, **values):
    return Turn(
        **{"question": "Q", "chatbot_id": bot.pk, "reply": "A", "subscribers": [subscriber_of(webhook)]} | values
    )
