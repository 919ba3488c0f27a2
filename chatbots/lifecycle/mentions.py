"""Where an e-mail address stands in what is kept, apart from its owner's own conversations.

what people and models said, and what the server noted of it -> [e-mail] takes its place
a question that an answer was added to -> likewise, and the document gets an id that does not tell of it
what the site itself wrote: documents, settings, golden questions -> is counted, and stays: the site's to change
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
from providers.check_connection import on_event_loop
from vectorstores.ingestion import rename
from vectorstores.models import Document, LocalVector, Upload
from vectorstores.sources import ANSWERED, short_hash

LETTER_OF_ADDRESS = r"[\w.%+'-]"
AT_ONCE = 500  # rows

Found = tuple[QuerySet[Any], Sequence[str]]  # rows, and the fields of theirs to look into


def texts_of(model: type[Model]) -> list[str]:
    kinds = models.CharField | models.TextField | models.JSONField
    return [field.name for field in model._meta.concrete_fields if isinstance(field, kinds)]


def unpacked(text: Any) -> Any:
    """What it says, if it is JSON in a text: there letters may be written in other ways."""
    if isinstance(text, str) and text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text


class Mentions:
    """Of one address; "" stands nowhere."""

    def __init__(self, email: str) -> None:
        self.email = email
        # Not as a part of another address.
        whole = rf"(?<!{LETTER_OF_ADDRESS}){re.escape(email)}(?![\w-]|\.\w)"
        self.pattern = re.compile(whole, re.IGNORECASE)

    # Where it stands

    def stands_in(self, value: Any) -> bool:
        if isinstance(value, dict | list):
            return any(map(self.stands_in, value.values() if isinstance(value, dict) else value))
        return isinstance(value, str) and bool(self.pattern.search(value))

    def rows(self, among: QuerySet[Any], names: Sequence[str]) -> Iterator[Any]:
        """Those in one of whose fields of these names it stands."""
        if not self.email:
            return
        condition = Q(pk__in=[])
        for name in names:
            among = among.alias(**{f"text_of_{name}": Cast(name, TextField())})
            for written in {self.email, json.dumps(self.email)[1:-1]}:
                condition |= Q(**{f"text_of_{name}__icontains": written})
        keys = list(among.filter(condition).order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(keys), AT_ONCE):  # not read while they are being changed
            for row in among.filter(pk__in=keys[start : start + AT_ONCE]).order_by("pk"):
                if any(self.stands_in(unpacked(getattr(row, name))) for name in names):
                    yield row

    def messages(self) -> Iterator[Message]:
        return self.rows(Message.objects.all(), ["content", "error", "passages"])

    def deliveries(self) -> Iterator[WebhookDelivery]:
        return self.rows(WebhookDelivery.objects.all(), ["payload", "response_excerpt", "last_error"])

    def answers(self) -> Iterator[Document]:
        """Documents under a question in which it stands: the words of whoever has asked."""
        return self.rows(Document.objects.filter(source=ANSWERED).select_related("collection"), ["title"])

    def records(self) -> dict[str, Found]:
        """What was noted. Versions and runs are noted too, but while a chatbot's settings hold it, so may they."""
        versions: Any = Chatbot.history.model
        using_it = [bot.pk for bot in self.rows(Chatbot.objects.all(), texts_of(Chatbot))]
        runs = GoldenRun.objects.filter(is_before_publishing=False)
        return {
            "golden results": (GoldenResult.objects.all(), texts_of(GoldenResult)),
            "golden runs": (runs.exclude(chatbot__in=using_it), ["settings"]),
            "versions of chatbots": (versions.objects.exclude(id__in=using_it), texts_of(versions)),
            "recorded changes": (LogEntry.objects.all(), ["object_repr", "change_message"]),
        }

    def counts(self) -> dict[str, int]:
        found = {name: len(list(self.rows(*where))) for name, where in self.records().items()}
        found["questions with an answer"] = len(list(self.answers()))
        return found

    def left(self) -> dict[str, int]:
        """In what the site itself wrote. Of stores elsewhere no more is known than names of documents."""
        answers = {key_of(document) for document in self.answers()}
        by_name = {key_of(row) for row in self.rows(Document.objects.all(), ["title", "source", "origin"])}
        by_name |= {key_of(row) for row in self.rows(LocalVector.objects.all(), ["metadata"])}
        by_text = {key_of(row) for row in self.rows(LocalVector.objects.all(), ["text", "headings"])}
        own: dict[str, type[Model]] = {"chatbots": Chatbot, "golden questions": GoldenQuestion, "uploads": Upload}
        left = {"documents": len(by_text | (by_name - answers))}
        for name, model in own.items():
            left[name] = len(list(self.rows(model._default_manager.all(), texts_of(model))))
        return left

    # Out of it

    def out_of(self, value: Any) -> Any:
        """The same without it."""
        if isinstance(value, dict):
            return {key: self.out_of(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.out_of(entry) for entry in value]
        return self.pattern.sub(REDACTION_KINDS["email"].marker, value) if isinstance(value, str) else value

    def take_out_of_records(self) -> None:
        for rows, names in self.records().values():
            for row in self.rows(rows, names):
                for name in names:
                    value = getattr(row, name)
                    changed = self.out_of(unpacked(value))
                    is_packed = isinstance(value, str) and not isinstance(changed, str)
                    setattr(row, name, json.dumps(changed) if is_packed else changed)
                row.save(update_fields=names)

    def take_out_of_answers(self) -> None:
        """Not within a transaction: stores may be far away. Raises ApiError; what is done by then stays done."""
        for document in self.answers():
            old_id, new_id = document.parent_vector_id, f"question-{short_hash(document.parent_vector_id)}"
            title = self.out_of(document.title)
            on_event_loop(lambda: rename(document, new_id, title))  # noqa: B023  it is over before the next one
            replace_id(old_id, new_id)


@transaction.atomic
def replace_id(old_id: str, new_id: str) -> None:
    """Of a document, wherever it is named: an id has words of the title."""
    SettledQuestion.objects.filter(document_id=old_id).update(document_id=new_id)
    for entry in LogEntry.objects.filter(change_message__contains=old_id):
        entry.change_message = entry.change_message.replace(old_id, new_id)
        entry.save(update_fields=["change_message"])
    for answer in Message.objects.alias(shown=Cast("passages", TextField())).filter(shown__contains=old_id):
        answer.passages = json.loads(json.dumps(answer.passages).replace(old_id, new_id))
        answer.save(update_fields=["passages"])


def key_of(row: Document | LocalVector) -> tuple[int, str, str]:
    return row.collection_id, row.namespace, row.parent_vector_id
