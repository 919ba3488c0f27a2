"""Rows that contain a person's e-mail address, outside that person's own conversations.

messages, webhook deliveries, results, versions and the change log -> the address is replaced by [e-mail]
titles of answers, which are visitors' questions -> replaced too, and the document gets an id without its title's words
documents, settings, golden questions and uploads, which the site itself wrote -> counted and kept, for the site to edit
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db import models, transaction
from django.db.models import Model, Q, QuerySet, TextField
from django.db.models.functions import Cast

from chatbots.models import Chatbot, GoldenQuestion, GoldenResult, GoldenRun, SettledQuestion
from logs.conversations import REDACTION_KINDS
from logs.models import Message, WebhookDelivery
from providers.run_async import run_async
from vectorstores.documents import rename
from vectorstores.models import Document, LocalVector, Source, Upload
from vectorstores.sources import ANSWERED, short_hash

LETTER_OF_ADDRESS = r"[\w.%+'-]"
BATCH_SIZE = 500  # rows

Fields = tuple[QuerySet[Any], Sequence[str]]  # rows, and the names of the fields to search


def text_fields(model: type[Model]) -> list[str]:
    kinds = models.CharField | models.TextField | models.JSONField
    return [field.name for field in model._meta.concrete_fields if isinstance(field, kinds)]


def parsed(text: Any) -> Any:
    """Parse a text that holds JSON, in which characters may be escaped; return any other value unchanged."""
    if isinstance(text, str) and text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text


class AddressRecords:
    """The rows that contain an e-mail address; none if the address is ""."""

    def __init__(self, email: str) -> None:
        self.email = email
        # Do not match it as a part of a longer address.
        whole = rf"(?<!{LETTER_OF_ADDRESS}){re.escape(email)}(?![\w-]|\.\w)"
        self.pattern = re.compile(whole, re.IGNORECASE)

    # Search

    def is_in(self, value: Any) -> bool:
        if isinstance(value, dict | list):
            return any(map(self.is_in, value.values() if isinstance(value, dict) else value))
        return isinstance(value, str) and bool(self.pattern.search(value))

    def rows(self, queryset: QuerySet[Any], fields: Sequence[str]) -> Iterator[Any]:
        """Yield the rows that contain the address in any of `fields`."""
        if not self.email:
            return
        condition = Q(pk__in=[])
        for name in fields:
            queryset = queryset.alias(**{f"text_of_{name}": Cast(name, TextField())})
            for spelling in {self.email, json.dumps(self.email)[1:-1]}:
                condition |= Q(**{f"text_of_{name}__icontains": spelling})
        keys = list(queryset.filter(condition).order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(keys), BATCH_SIZE):  # no open cursor, because the caller changes the rows
            for row in queryset.filter(pk__in=keys[start : start + BATCH_SIZE]).order_by("pk"):
                if any(self.is_in(parsed(getattr(row, name))) for name in fields):
                    yield row

    def messages(self) -> Iterator[Message]:
        return self.rows(Message.objects.all(), ["content", "error", "passages", "searched_for"])

    def deliveries(self) -> Iterator[WebhookDelivery]:
        return self.rows(WebhookDelivery.objects.all(), ["payload", "response_excerpt", "last_error"])

    def answers(self) -> Iterator[Document]:
        """Yield the documents whose title, a visitor's question, contains the address."""
        return self.rows(Document.objects.filter(source=ANSWERED).select_related("collection"), ["title"])

    def records(self) -> dict[str, Fields]:
        """Return the recorded rows by their name in the report.

        Versions and runs of chatbots whose current settings contain the address are left out.
        """
        versions: Any = Chatbot.history.model
        using_it = [bot.pk for bot in self.rows(Chatbot.objects.all(), text_fields(Chatbot))]
        runs = GoldenRun.objects.filter(is_before_publishing=False)
        return {
            "golden results": (GoldenResult.objects.all(), text_fields(GoldenResult)),
            "golden runs": (runs.exclude(chatbot__in=using_it), ["settings", "saved_settings"]),
            "versions of chatbots": (versions.objects.exclude(id__in=using_it), text_fields(versions)),
            "recorded changes": (LogEntry.objects.all(), ["object_repr", "change_message"]),
        }

    def counts(self) -> dict[str, int]:
        counts = {name: len(list(self.rows(*fields))) for name, fields in self.records().items()}
        counts["questions with an answer"] = len(list(self.answers()))
        return counts

    def kept(self) -> dict[str, int]:
        """Count the rows that the site itself wrote. Texts in external stores are searched where they are indexed."""
        answers = {key_of(document) for document in self.answers()}
        by_name = {key_of(row) for row in self.rows(Document.objects.all(), ["title", "source", "origin"])}
        by_name |= {key_of(row) for row in self.rows(LocalVector.objects.all(), ["metadata"])}
        by_text = {key_of(row) for row in self.rows(LocalVector.objects.all(), ["text", "headings"])}
        written_by_site: dict[str, type[Model]] = {
            "chatbots": Chatbot,
            "golden questions": GoldenQuestion,
            "uploads": Upload,
            "sources": Source,
        }
        counts = {"documents": len(by_text | (by_name - answers))}
        for name, model in written_by_site.items():
            counts[name] = len(list(self.rows(model._default_manager.all(), text_fields(model))))
        return counts

    # Replacement

    def replaced_in(self, value: Any) -> Any:
        """Return the value with [e-mail] in place of the address."""
        if isinstance(value, dict):
            return {key: self.replaced_in(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.replaced_in(entry) for entry in value]
        return self.pattern.sub(REDACTION_KINDS["email"].marker, value) if isinstance(value, str) else value

    def replace_in_records(self) -> None:
        for queryset, fields in self.records().values():
            for row in self.rows(queryset, fields):
                for name in fields:
                    value = getattr(row, name)
                    changed = self.replaced_in(parsed(value))
                    was_json = isinstance(value, str) and not isinstance(changed, str)
                    setattr(row, name, json.dumps(changed) if was_json else changed)
                row.save(update_fields=fields)

    def replace_in_answers(self) -> None:
        """Rename the documents one by one. Raise ApiError if a store fails; earlier documents stay renamed."""
        for document in self.answers():
            old_id, new_id = document.parent_vector_id, f"question-{short_hash(document.parent_vector_id)}"
            title = self.replaced_in(document.title)
            run_async(lambda: rename(document, new_id, title))  # noqa: B023  it ends before the next document
            replace_id(old_id, new_id)


@transaction.atomic
def replace_id(old_id: str, new_id: str) -> None:
    """Replace a document's id, which contains words of its title, in all rows that name the document."""
    SettledQuestion.objects.filter(document_id=old_id).update(document_id=new_id)
    for entry in LogEntry.objects.filter(change_message__contains=old_id):
        entry.change_message = entry.change_message.replace(old_id, new_id)
        entry.save(update_fields=["change_message"])
    fields: list[tuple[type[Model], str]] = [(Message, "passages"), (Upload, "document_ids")]
    for model, name in fields:
        for row in model._default_manager.alias(shown=Cast(name, TextField())).filter(shown__contains=old_id):
            setattr(row, name, json.loads(json.dumps(getattr(row, name)).replace(old_id, new_id)))
            row.save(update_fields=[name])


def key_of(row: Document | LocalVector) -> tuple[int, str, str]:
    return row.collection_id, row.namespace, row.parent_vector_id
