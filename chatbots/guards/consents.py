"""Rows of consent: written within a limit per network, and deleted if no question followed."""

import time
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from chatbots.conversation.visitor import Visitor
from chatbots.guards.counters import MINUTE, count_within_limit
from chatbots.models import Chatbot, Consent
from logs.conversations import visitor_key
from logs.models import Conversation
from puffer.net import network_of

CONSENTS_PER_MINUTE = 30  # of one chatbot and network
CONSENT_PREFIX = "consent "  # of a MessageCount.subject that counts consents
UNUSED_DAYS = 7  # after which a consent without a conversation is deleted
CHECKED_DAYS = 30  # older consents have been checked before


@transaction.atomic
def record_consent(bot: Chatbot, visitor: Visitor, digest: str) -> bool:
    """Keep the visitor's agreement as proof. Return False, and keep nothing, if their network sends too many."""
    minute = int(time.time()) // MINUTE * MINUTE
    subject = CONSENT_PREFIX + network_of(visitor.ip_address)
    if not count_within_limit(bot.pk, subject, minute, CONSENTS_PER_MINUTE):
        return False
    Consent.objects.get_or_create(chatbot=bot, visitor=visitor.key, text_digest=digest)
    return True


def unused_consents() -> list[int]:
    """Return the ids of consents whose visitors asked nothing in a week.

    A consent has only a hash of its visitor, so it is compared with the hashes of visitors who asked.
    """
    now = timezone.now()
    since = now - timedelta(days=CHECKED_DAYS)
    consents = Consent.objects.filter(given_at__gte=since, given_at__lt=now - timedelta(days=UNUSED_DAYS))
    unused = []
    for chatbot_id in set(consents.values_list("chatbot_id", flat=True)):
        conversations = Conversation.objects.filter(chatbot_id=chatbot_id, updated_at__gte=since)
        asked = {
            visitor_key(session_id or "", user_id or "")
            for session_id, user_id in conversations.values_list("session_id", "external_user_id").iterator()
        }
        of_bot = consents.filter(chatbot_id=chatbot_id).values_list("pk", "visitor")
        unused += [pk for pk, visitor in of_bot.iterator() if visitor not in asked]
    return unused
