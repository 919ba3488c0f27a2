"""Edit a stored document, or embed it again.

    read -> new version -> claim -> embed and store

The old version stays until the new one is embedded. Claims keep imports from storing the document at the same time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from asgiref.sync import sync_to_async
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from puffer.api import ApiError
from puffer.text import without_control_characters
from vectorstores.base import Metadata, Value
from vectorstores.documents.stored import FACTS_JOINT, StoredDocument, read
from vectorstores.extraction.markdown import from_markdown
from vectorstores.ingestion.claims import Claims
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument, make_document
from vectorstores.ingestion.pipeline import ingest
from vectorstores.models import Document, DocumentQuerySet
from vectorstores.registry import get_store
from vectorstores.sources.uploaded import TYPED
from vectorstores.stores.threads import call_store

MAX_EDITED = 200_000  # characters; longer texts take too long to embed while a page waits
PATIENCE = 10.0  # seconds to wait for an import that stores the document at the same time
LINKS = ("url", "uri")  # the metadata that Passage.url reads


# Pages show these messages after a sentence that names the document.


class DocumentDeleted(ApiError):
    status, code = 404, "document_deleted"
    message = cast(str, _("It was deleted in the meantime."))


class DocumentChanged(ApiError):
    status, code = 409, "document_changed"
    message = cast(str, _("It has changed since you opened this page. Copy your text, then open the page again."))


class DocumentBusy(ApiError):
    status, code = 409, "document_busy"
    message = cast(str, _("An import is storing it. Try again in a minute."))


class TitleTaken(ApiError):
    status, code = 409, "title_taken"
    message = cast(str, _("Another document of this collection has this title. Edit or delete that one."))


class TextMissing(ApiError):
    status, code = 409, "text_missing"
    message = cast(str, _("The store has only a part of it. Edit its text, or import or upload it again."))


class ModelUnknown(ApiError):
    status, code = 409, "missing_vector_text_embedding_config"
    message = cast(str, _("The embedding model of this collection is unknown."))


@dataclass(frozen=True, slots=True)
class Edited:
    """What a user has made of a document. Lines end with LF."""

    title: str
    url: str
    text: str


async def edit(document: Document, edited: Edited, version: str) -> None:
    """Store the edited document in place of the `version` that the user saw, and update the record.

    A typed text whose title changes gets the id of the new title. Raise ApiError: then the old version is kept, except
    after a failure in the middle of writing, which the record tells.
    """
    destination = destination_of(document)
    stored = await read(document)
    await replace_version(document, new_version(document, stored, edited, destination), destination, version)


async def embed_again(document: Document) -> None:
    """Embed the chunks again, as they are. Raise ApiError."""
    destination = destination_of(document)
    stored = await read(document)
    if not stored.is_complete:
        raise TextMissing
    await replace_version(document, as_recorded(stored.document, document), destination, document.version)


def destination_of(document: Document) -> Destination:
    """Return where the document, which comes with its collection, is stored. Raise ModelUnknown."""
    collection = document.collection
    if not collection.embedding_model:
        raise ModelUnknown
    model = collection.embedding_provider, collection.embedding_model
    return Destination(collection.store, collection.name, *model, document.namespace)


def new_version(document: Document, stored: StoredDocument, edited: Edited, destination: Destination) -> NewDocument:
    if make_item := TYPED.get(document.origin):
        item = make_item(edited.title, edited.text, edited.url)
        if edited.title == document.title:  # documents of earlier versions may have other ids
            item["id"] = document.parent_vector_id
        return make_document(item, destination, source=document.source, origin=document.origin)
    metadata = with_names(stored.metadata, edited)
    if stored.is_complete and edited.text == without_control_characters(stored.text):
        new = stored.with_values if edited.title == stored.title else stored.document
        chunks = [replace(chunk, metadata=without_names(chunk.metadata)) for chunk in new.chunks]
        return as_recorded(replace(new, metadata=metadata, chunks=chunks), document)
    item = {"id": document.parent_vector_id, "content": edited.text, "metadata": metadata}
    return as_recorded(cut_again(item, document, stored.facts, destination), document)


def cut_again(item: dict[str, object], document: Document, facts: str, destination: Destination) -> NewDocument:
    """Cut an edited text like its first version: texts of the API and rows with facts by characters, files by form."""
    text = str(item["content"])
    if facts and text.endswith(FACTS_JOINT + facts):
        return make_document(item | {"content": text.removesuffix(FACTS_JOINT + facts)}, destination, facts=facts)
    if facts or not document.origin:
        return make_document(item, destination)
    extracted = from_markdown(text, document.title)
    return make_document(item | {"content": extracted.text}, destination, extracted=extracted)


def as_recorded(new: NewDocument, document: Document) -> NewDocument:
    """Return the document with the source of the record.

    An imported document keeps the hash of what was imported, so the edit stays until its source changes.
    """
    content_hash = document.content_hash if document.origin else new.content_hash
    return replace(new, source=document.source, origin=document.origin, content_hash=content_hash)


def without_names(metadata: Mapping[str, Value]) -> Metadata:
    return {key: value for key, value in metadata.items() if key not in ("title", *LINKS)}


def with_names(metadata: Metadata, edited: Edited) -> Metadata:
    named = {"title": edited.title, "url": edited.url}
    return without_names(metadata) | {key: value for key, value in named.items() if value}


# Store


async def replace_version(document: Document, new: NewDocument, destination: Destination, version: str) -> None:
    """Store `new` in place of this version of the document, under a claim of its id, or of both ids."""
    claims = Claims(destination)
    old_id = document.parent_vector_id
    ids = dict.fromkeys([old_id, new.parent_id])

    async def work() -> None:
        claimed = [replace(new, parent_id=parent_id) for parent_id in ids]
        await claims.claim_all(claimed, PATIENCE)
        if (await claims.claim(claimed)).others:
            raise DocumentBusy
        await sync_to_async(check_version)(document, version, new.parent_id)
        async for _stored in ingest([new], destination, claims=claims):
            pass
        if new.parent_id != old_id:
            store = await get_store(destination.store)
            await call_store(store, store.delete_parents, destination.target, [old_id], document.namespace)
            await sync_to_async(take_over)(document, new.parent_id)

    await claims.hold(work())


def check_version(document: Document, version: str, new_id: str) -> None:
    """Raise DocumentDeleted, DocumentChanged or TitleTaken."""
    current = Document.objects.filter(pk=document.pk).first()
    if current is None:
        raise DocumentDeleted
    if current.version != version:
        raise DocumentChanged
    others = with_id(document, new_id).exclude(pk=document.pk)
    if others.filter(status=Document.Status.STORED).exists():
        raise TitleTaken


@transaction.atomic
def take_over(document: Document, new_id: str) -> None:
    """Let the document's record, which links and the history point at, describe what was stored under a new id."""
    record = Document.objects.filter(pk=document.pk)
    record.delete_words()  # of the old id
    made = with_id(document, new_id)
    names = ["parent_vector_id", "title", "content_hash", "chunks", "status", "error", "updated_at"]
    values = made.values(*names).get()
    made.delete_records()
    record.update(**values)


def with_id(document: Document, parent_id: str) -> DocumentQuerySet:
    """Return the record with this id in the document's collection, if there is one."""
    place = {"collection": document.collection_id, "namespace": document.namespace}
    return Document.objects.filter(**place, parent_vector_id=parent_id)
