"""Erasing a person: all that is kept of them, found by whatever they are known by.

Person -> their conversations, there the names that limits and consents know them by -> what is theirs -> gone
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AbstractUser
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Model, Q, QuerySet

from chatbots.conversation.visitor import Identity, Visitor
from chatbots.guards.counters import network_of
from chatbots.lifecycle.mentions import Mentions
from chatbots.models import Consent, MessageCount, TokenAllowance
from chatbots.widget.events import TOLD
from logs.conversations import MAX_LAST_MESSAGE, REDACTION_KINDS
from logs.models import Conversation, ConversationQuerySet, Message, WebhookDelivery
from puffer.text import excerpt

AT_ONCE = 500  # values in one condition


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of somebody; any of it is enough. Users of the embedding sites are theirs alone: `chatbot_ids`
    says whose, None means all chatbots.
    """

    accounts: tuple[AbstractUser, ...] = ()
    email: str = ""
    external_user_id: str = ""
    session_id: str = ""
    chatbot_ids: frozenset[int] | None = None


class Erasure:
    """What is theirs. `report` counts it, erase() deletes it."""

    def __init__(self, person: Person, *, with_accounts: bool) -> None:
        self.person = person
        self.accounts = person.accounts if with_accounts else ()
        self.staying = () if with_accounts else person.accounts
        self.conversations, users, sessions = find_conversations(person)
        self.in_limits = known_to_limits(person, users, sessions)
        self.mentioned = Mentions(person.email)
        self.networks = {network_of(conversation.ip_address or "") for conversation in self.conversations} - {""}

    def report(self) -> dict[str, int]:
        counts = dict.fromkeys(["conversations", "messages", "votes", "consents", "token allowances"], 0)
        counts["conversations"] = len(self.conversations)
        for some in chunks(self.conversations):
            messages = Message.objects.filter(conversation__in=some)
            counts["messages"] += messages.count()
            counts["votes"] += messages.exclude(feedback="").count()
        counts["consents"] = self.owned(Consent, "visitor").count()
        counts["token allowances"] = self.owned(TokenAllowance, "visitor").count()
        counts["webhook deliveries"] = len(self.deliveries())
        counts["message counts"] = self.message_counts().count()
        counts["mentions of the address by others"] = sum(1 for _ in self.mentions())
        counts |= {f"mentions in {name}": count for name, count in self.mentioned.counts().items()}
        counts["sign-ins and attempts"] = sum(rows.count() for rows in self.sign_ins())
        counts["accounts"] = len(self.accounts)
        return counts

    def erase(self) -> None:
        """Raises ApiError if a store does not take the address out of a title: then only other titles are changed."""
        self.mentioned.take_out_of_answers()
        self.erase_from_database()

    @transaction.atomic
    def erase_from_database(self) -> None:
        deliveries = self.deliveries()
        for message in self.mentions():
            self.take_address_out_of(message)
        self.mentioned.take_out_of_records()
        for some in chunks(deliveries):
            WebhookDelivery.objects.filter(pk__in=some).delete()
        for some in chunks(self.conversations):
            Conversation.objects.filter(pk__in=[conversation.pk for conversation in some]).delete()
        self.owned(Consent, "visitor").delete()
        self.owned(TokenAllowance, "visitor").delete()
        self.message_counts().delete()
        for rows in self.sign_ins():
            rows.delete()
        for account in self.accounts:
            of_account = ContentType.objects.get_for_model(account)
            LogEntry.objects.filter(content_type=of_account, object_id=str(account.pk)).delete()
            account.delete()

    def owned(self, model: type[Model], visitor: str) -> QuerySet:
        condition = Q(pk__in=[])
        for chatbot_ids, key in self.in_limits:
            condition |= Q(**{visitor: key}) & (Q() if chatbot_ids is None else Q(chatbot__in=chatbot_ids))
        return model._default_manager.filter(condition)

    def message_counts(self) -> QuerySet[MessageCount]:
        """Also those of their address, which others may share: they count for a minute only."""
        of_address = self.networks | {TOLD + network for network in self.networks}
        return self.owned(MessageCount, "counted") | MessageCount.objects.filter(counted__in=of_address)

    def deliveries(self) -> set[int]:
        """What webhooks are told of sessions and limits, and whatever names them; the rest goes with conversations."""
        of_theirs = self.owned(WebhookDelivery, "visitor").values_list("pk", flat=True)
        return {*of_theirs, *(delivery.pk for delivery in self.mentioned.deliveries())}

    def sign_ins(self) -> Iterator[QuerySet[Any]]:
        """Of the accounts that go, and of a name that is no account's."""
        names = {name for account in self.accounts for name in (account.get_username(), account.email) if name}
        stays = any(self.person.email.lower() in (a.email.lower(), a.get_username().lower()) for a in self.staying)
        email = "" if stays else self.person.email
        for model in (AccessAttempt, AccessLog, AccessFailureLog):
            condition = Q(username__in=names)
            if email:
                condition |= Q(username__iexact=email) | Q(path_info__icontains=email)
            if email and model is AccessAttempt:
                condition |= Q(get_data__icontains=email) | Q(post_data__icontains=email)
            yield model._default_manager.filter(condition)

    def mentions(self) -> Iterator[Message]:
        """Messages of other conversations in which the e-mail address stands."""
        mine = {conversation.pk for conversation in self.conversations}
        return (message for message in self.mentioned.messages() if message.conversation_id not in mine)

    def take_address_out_of(self, message: Message) -> None:
        message.content, count = self.mentioned.pattern.subn(REDACTION_KINDS["email"].marker, message.content)
        message.error, message.passages = self.mentioned.out_of(message.error), self.mentioned.out_of(message.passages)
        redactions = message.redactions or {}
        message.redactions = {**redactions, "email": redactions.get("email", 0) + count}
        message.save(update_fields=["content", "normalized", "error", "passages", "redactions"])
        WebhookDelivery.objects.filter(conversation=message.conversation_id).delete()  # which may hold the text
        last = Message.objects.filter(conversation=message.conversation_id).order_by("id").last()
        if message == last:
            beginning = excerpt(message.content, MAX_LAST_MESSAGE)
            Conversation.objects.filter(pk=message.conversation_id).update(last_message=beginning)


SiteUser = tuple[int | None, str]  # the chatbot, and how the site that embeds it calls the user


def find_conversations(person: Person) -> tuple[list[Conversation], set[SiteUser], set[str]]:
    """Those that the person is known by; then all of the same users of the same sites; then what these said as
    guests, in the same browser. And whom that led to: users of sites, and sessions.
    """
    among = Conversation.objects.of_bots(person.chatbot_ids)
    named = Q(user__in=person.accounts)
    if person.email:
        named |= Q(external_email__iexact=person.email) | Q(external_name__iexact=person.email)
        named |= Q(external_user_id__iexact=person.email)  # there are sites that call their users so
    if person.external_user_id:
        named |= Q(external_user_id=person.external_user_id)
    found = {conversation.pk: conversation for conversation in among.filter(named)}
    users = {(c.chatbot_id, c.external_user_id) for c in found.values() if c.external_user_id}
    for some in chunks(users):
        condition = Q(pk__in=[])
        for chatbot_id, user_id in some:
            condition |= Q(chatbot=chatbot_id, external_user_id=user_id)
        found |= in_bulk(among.filter(condition))
    sessions = {c.session_id for c in found.values() if c.session_id}
    for some in chunks(sessions):
        found |= in_bulk(among.filter(session_id__in=some, external_user_id="", user=None))
    if person.session_id:
        sessions.add(person.session_id)
        found |= in_bulk(among.filter(session_id=person.session_id))
    return list(found.values()), users, sessions


def in_bulk(conversations: ConversationQuerySet) -> dict[int, Conversation]:
    return {conversation.pk: conversation for conversation in conversations}


def known_to_limits(
    person: Person, users: Iterable[SiteUser], sessions: Iterable[str]
) -> list[tuple[frozenset[int] | None, str]]:
    """Their keys, and with which chatbots. A chatbot that is deleted has left nothing there."""
    keys = [(frozenset({chatbot}), Visitor(identity=Identity(user)).key) for chatbot, user in users if chatbot]
    named: list[tuple[frozenset[int] | None, str]] = []
    if person.external_user_id:
        named = [(person.chatbot_ids, Visitor(identity=Identity(person.external_user_id)).key)]
    return [*keys, *named, *((person.chatbot_ids, Visitor(session_id=session).key) for session in sessions)]


def chunks(values: Iterable) -> Iterator[list]:
    values = list(values)
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]
