"""Text search over conversations. Behind one function each, so that an index can take its place."""

from django.db.models import Q, Value
from django.db.models.functions import Concat

from logs.models import ConversationQuerySet, Message


def matching_messages(conversations: ConversationQuerySet, text: str) -> ConversationQuerySet:
    """Those in which a message contains the text, in any letter case; % and _ are plain characters."""
    found = Message.objects.filter(content__icontains=text).values("conversation_id")
    return conversations.filter(pk__in=found)


def matching_visitors(conversations: ConversationQuerySet, text: str) -> ConversationQuerySet:
    """Those whose user has it in their display name, user name or e-mail, or whose guest has it in the session id.

    A visitor of whom the embedding site tells is such a user too.
    """
    return conversations.alias(display_name=Concat("user__first_name", Value(" "), "user__last_name")).filter(
        Q(display_name__icontains=text)
        | Q(user__username__icontains=text)
        | Q(user__email__icontains=text)
        | Q(external_name__icontains=text)
        | Q(external_email__icontains=text)
        | Q(external_user_id__icontains=text)
        | Q(user=None, session_id__icontains=text)
    )
