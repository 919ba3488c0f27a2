"""Erasure of a person: find everything stored about them, report it and delete it.

Person -> their conversations -> from these, the keys under which limits and consents are stored -> report, delete
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
from chatbots.guards.consents import CONSENT_PREFIX
from chatbots.guards.limits import network_key
from chatbots.lifecycle.erasure_records import AddressRecords
from chatbots.models import Consent, GoldenResult, MessageCount, TokenAllowance
from chatbots.widget.events import EVENT_PREFIX
from logs.conversations import MAX_LAST_MESSAGE, REDACTION_KINDS
from logs.models import Conversation, ConversationQuerySet, Message, WebhookDelivery
from puffer.net import network_of
from puffer.text import excerpt

BATCH_SIZE = 500  # values in one query


@dataclass(frozen=True, slots=True)
class Person:
    """The identifiers of a person; any one is enough.

    `chatbot_ids` (None: all) limits the search, because another site may give the same user id to another person.
    """

    accounts: tuple[AbstractUser, ...] = ()
    email: str = ""
    external_user_id: str = ""
    session_id: str = ""
    chatbot_ids: frozenset[int] | None = None


class Erasure:
    """The data stored about a person: report() counts it, erase() deletes it."""

    def __init__(self, person: Person, *, with_accounts: bool) -> None:
        self.person = person
        self.accounts = person.accounts if with_accounts else ()
        self.kept_accounts = () if with_accounts else person.accounts
        self.conversations, users, sessions = find_conversations(person)
        self.visitor_keys = visitor_keys(person, users, sessions)
        self.address = AddressRecords(person.email)
        self.networks = {network_of(conversation.ip_address or "") for conversation in self.conversations} - {""}

    def report(self) -> dict[str, int]:
        names = ["conversations", "messages", "votes", "questions in evaluations", "consents", "token allowances"]
        counts = dict.fromkeys(names, 0)
        counts["conversations"] = len(self.conversations)
        for batch in batches(self.conversations):
            messages = Message.objects.filter(conversation__in=batch)
            counts["messages"] += messages.count()
            counts["votes"] += messages.exclude(feedback="").count()
            counts["questions in evaluations"] += GoldenResult.objects.filter(conversation__in=batch).count()
        counts["consents"] = self.rows_of(Consent, "visitor").count()
        counts["token allowances"] = self.allowances().count()
        counts["webhook deliveries"] = len(self.deliveries())
        counts["message counts"] = self.message_counts().count()
        counts["mentions of the address by others"] = sum(1 for _ in self.messages_of_others())
        counts |= {f"mentions in {name}": count for name, count in self.address.counts().items()}
        counts["sign-ins and attempts"] = sum(rows.count() for rows in self.sign_ins())
        counts["accounts"] = len(self.accounts)
        return counts

    def erase(self) -> None:
        """Delete everything. If a store cannot rename a document, raise ApiError with only some documents renamed."""
        self.address.replace_in_answers()
        self.erase_from_database()

    @transaction.atomic
    def erase_from_database(self) -> None:
        deliveries = self.deliveries()
        for message in self.messages_of_others():
            self.replace_address_in(message)
        self.address.replace_in_records()
        for batch in batches(deliveries):
            WebhookDelivery.objects.filter(pk__in=batch).delete()
        for batch in batches(self.conversations):
            Conversation.objects.filter(pk__in=[conversation.pk for conversation in batch]).delete()
        self.rows_of(Consent, "visitor").delete()
        self.allowances().delete()
        self.message_counts().delete()
        for rows in self.sign_ins():
            rows.delete()
        for account in self.accounts:
            account_type = ContentType.objects.get_for_model(account)
            LogEntry.objects.filter(content_type=account_type, object_id=str(account.pk)).delete()
            account.delete()

    def rows_of(self, model: type[Model], field: str) -> QuerySet:
        """Return the rows whose `field` is one of the person's visitor keys."""
        condition = Q(pk__in=[])
        for chatbot_ids, key in self.visitor_keys:
            condition |= Q(**{field: key}) & (Q() if chatbot_ids is None else Q(chatbot__in=chatbot_ids))
        return model._default_manager.filter(condition)

    def allowances(self) -> QuerySet[TokenAllowance]:
        """Return the person's quotas, and those of their networks, which may be shared."""
        of_networks = TokenAllowance.objects.filter(visitor__in=map(network_key, self.networks))
        return self.rows_of(TokenAllowance, "visitor") | of_networks

    def message_counts(self) -> QuerySet[MessageCount]:
        """Return the message counts of the person and of their IP addresses, which last a minute and may be shared."""
        subjects = {prefix + network for network in self.networks for prefix in ("", EVENT_PREFIX, CONSENT_PREFIX)}
        return self.rows_of(MessageCount, "subject") | MessageCount.objects.filter(subject__in=subjects)

    def deliveries(self) -> set[int]:
        """Return the ids of the deliveries about the person's sessions and limits, and of any that contain the address.

        The deliveries of a conversation are deleted with the conversation.
        """
        own = self.rows_of(WebhookDelivery, "visitor").values_list("pk", flat=True)
        return {*own, *(delivery.pk for delivery in self.address.deliveries())}

    def sign_ins(self) -> Iterator[QuerySet[Any]]:
        """Yield the sign-ins to the deleted accounts, and those with the address unless a kept account has it."""
        names = {name for account in self.accounts for name in (account.get_username(), account.email) if name}
        email = self.person.email
        if any(email.lower() in (a.email.lower(), a.get_username().lower()) for a in self.kept_accounts):
            email = ""
        for model in (AccessAttempt, AccessLog, AccessFailureLog):
            condition = Q(username__in=names)
            if email:
                condition |= Q(username__iexact=email) | Q(path_info__icontains=email)
            if email and model is AccessAttempt:
                condition |= Q(get_data__icontains=email) | Q(post_data__icontains=email)
            yield model._default_manager.filter(condition)

    def messages_of_others(self) -> Iterator[Message]:
        """Yield the messages of other conversations that contain the e-mail address."""
        own = {conversation.pk for conversation in self.conversations}
        return (message for message in self.address.messages() if message.conversation_id not in own)

    def replace_address_in(self, message: Message) -> None:
        message.content, count = self.address.pattern.subn(REDACTION_KINDS["email"].marker, message.content)
        message.error = self.address.replaced_in(message.error)
        message.passages = self.address.replaced_in(message.passages)
        message.searched_for = self.address.replaced_in(message.searched_for)
        redactions = message.redactions or {}
        message.redactions = {**redactions, "email": redactions.get("email", 0) + count}
        message.save(update_fields=["content", "normalized", "error", "passages", "searched_for", "redactions"])
        WebhookDelivery.objects.filter(conversation=message.conversation_id).delete()  # they may contain the text
        last = Message.objects.filter(conversation=message.conversation_id).order_by("id").last()
        if message == last:
            beginning = excerpt(message.content, MAX_LAST_MESSAGE)
            Conversation.objects.filter(pk=message.conversation_id).update(last_message=beginning)


SiteUser = tuple[int | None, str]  # the chatbot's id, and the user's id on the site that embeds it


def find_conversations(person: Person) -> tuple[list[Conversation], set[SiteUser], set[str]]:
    """Return the person's conversations, and the site users and sessions found in them.

    Three steps: the conversations that name the person, all conversations of the site users in these, and the guest
    conversations in the same browsers.
    """
    candidates = Conversation.objects.of_bots(person.chatbot_ids)
    named = Q(user__in=person.accounts)
    if person.email:
        named |= Q(external_email__iexact=person.email) | Q(external_name__iexact=person.email)
        named |= Q(external_user_id__iexact=person.email)  # some sites use the address as the user id
    if person.external_user_id:
        named |= Q(external_user_id=person.external_user_id)
    found = {conversation.pk: conversation for conversation in candidates.filter(named)}
    users = {(c.chatbot_id, c.external_user_id) for c in found.values() if c.external_user_id}
    for batch in batches(users):
        condition = Q(pk__in=[])
        for chatbot_id, user_id in batch:
            condition |= Q(chatbot=chatbot_id, external_user_id=user_id)
        found |= in_bulk(candidates.filter(condition))
    sessions = {c.session_id for c in found.values() if c.session_id}
    for batch in batches(sessions):
        found |= in_bulk(candidates.filter(session_id__in=batch, external_user_id="", user=None))
    if person.session_id:
        sessions.add(person.session_id)
        found |= in_bulk(candidates.filter(session_id=person.session_id))
    return list(found.values()), users, sessions


def in_bulk(conversations: ConversationQuerySet) -> dict[int, Conversation]:
    return {conversation.pk: conversation for conversation in conversations}


def visitor_keys(
    person: Person, users: Iterable[SiteUser], sessions: Iterable[str]
) -> list[tuple[frozenset[int] | None, str]]:
    """Return the person's visitor keys, each with its chatbots (None: all). Deleted chatbots have no rows left."""
    keys = [(frozenset({chatbot}), Visitor(identity=Identity(user)).key) for chatbot, user in users if chatbot]
    named: list[tuple[frozenset[int] | None, str]] = []
    if person.external_user_id:
        named = [(person.chatbot_ids, Visitor(identity=Identity(person.external_user_id)).key)]
    return [*keys, *named, *((person.chatbot_ids, Visitor(session_id=session).key) for session in sessions)]


def batches(values: Iterable) -> Iterator[list]:
    values = list(values)
    for start in range(0, len(values), BATCH_SIZE):
        yield values[start : start + BATCH_SIZE]
