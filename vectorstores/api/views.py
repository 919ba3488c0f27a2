"""POST /vector-stores/upsert."""

from typing import Any

from asgiref.sync import sync_to_async
from rest_framework.request import Request
from rest_framework.response import Response

from providers.api import UPSTREAM_STATUSES, slugs
from providers.base import Capability
from puffer.api import (
    ApiError,
    Array,
    AsyncAPIView,
    Caller,
    InsufficientScope,
    Object,
    Parameters,
    String,
    caller_of,
)
from puffer.models import Scope
from puffer.runtime import in_thread_if_large
from puffer.text import is_blank
from vectorstores.ingestion.claims import Claims
from vectorstores.ingestion.destination import Destination, embedding_of
from vectorstores.ingestion.documents import NewDocument, make_document
from vectorstores.ingestion.pipeline import ingest
from vectorstores.ingestion.sync import stored_hashes
from vectorstores.registry import STORES

MAX_ITEMS = 1000
CLAIM_PATIENCE = 20.0  # seconds in which another call or import may store the same documents first
MAX_METADATA = 200  # names of one text
EMBEDDING_PROVIDERS = ["openai", "google", "azure", "openrouter"]  # those of AI Puffer, in its order
EMBEDDING_PROVIDERS += [slug for slug in slugs(Capability.EMBEDDING) if slug not in EMBEDDING_PROVIDERS]


class UpsertView(AsyncAPIView):
    """POST /vector-stores/upsert: chunk and embed texts, and store them in a collection."""

    required_scope = Scope.VECTORS
    error_statuses = UPSTREAM_STATUSES | {"404": "The store has no such collection."}
    answer = {
        "type": "object",
        "properties": {
            "upserted_count": {"type": "integer", "description": "Chunks stored."},
            "status": {"type": "string"},
            "source_count": {"type": "integer"},
            "total_chunks": {"type": "integer"},
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "parent_vector_id": {"type": "string"},
                        "upserted_count": {"type": "integer"},
                        "total_chunks": {"type": "integer"},
                    },
                },
            },
        },
    }
    parameters = Parameters(
        provider=String(required=True, enum=list(STORES)),
        target_id=String(
            required=True, description="The collection (for Pinecone, the index); for Chroma its name or id."
        ),
        vectors=Array(
            Object(
                {
                    "content": String(required=True),
                    "id": String(description="The same id again replaces the text."),
                    "metadata": Object(
                        max_properties=MAX_METADATA,
                        description="Strings, numbers, booleans and lists of strings are kept.",
                    ),
                    "uri": String(),
                }
            ),
            required=True,
            max_items=10 * MAX_ITEMS,  # check_request() has its own error for more than MAX_ITEMS
            description=f"At most {MAX_ITEMS} texts.",
        ),
        embedding_provider=String(required=True, enum=EMBEDDING_PROVIDERS),
        embedding_model=String(required=True),
        namespace=String(description="Only Pinecone and the local store have namespaces; other stores ignore it."),
    )

    async def post(
        self,
        request: Request,
        *,
        provider: str,
        target_id: str,
        vectors: list[dict[str, Any]],
        embedding_provider: str,
        embedding_model: str,
        namespace: str | None,
    ) -> Response:
        destination = Destination(
            store=provider,
            target=target_id.strip(),
            embedding_provider=embedding_provider,
            embedding_model=embedding_model.strip(),
            namespace=(namespace or "").strip(),
        )
        check_request(destination, vectors)
        await check_caller(caller_of(request), destination)
        documents = await in_thread_if_large(
            sum(len(item["content"]) for item in vectors),
            lambda: [make_document(item, destination) for item in vectors],
        )
        claims = Claims(destination)
        await claims.hold(store_in_order(documents, destination, caller_of(request), claims))
        chunks = sum(len(document.chunks) for document in documents)
        return Response(
            {
                "upserted_count": chunks,
                "status": "success",
                "source_count": len(documents),
                "total_chunks": chunks,
                "results": [result_json(document) for document in documents],
            }
        )


def check_request(destination: Destination, vectors: list[dict[str, Any]]) -> None:
    """Raise ApiError for an invalid request before anything is embedded or stored."""
    if not vectors:
        raise ApiError(
            'The "vectors" parameter must be a non-empty array.', status=400, code="rest_aipkit_invalid_vectors"
        )
    if len(vectors) > MAX_ITEMS:
        raise ApiError(
            f"At most {MAX_ITEMS} texts are allowed per call, not {len(vectors)}.",
            status=400,
            code="rest_aipkit_invalid_vectors",
        )
    if not destination.target:
        raise ApiError("target_id must not be blank.", status=400, code="missing_vector_text_target")
    if not destination.embedding_model:
        raise ApiError("embedding_model must not be blank.", status=400, code="missing_vector_text_embedding_config")
    for item in vectors:
        if is_blank(item["content"]):
            raise ApiError(
                'Each object in the "vectors" array must have a non-empty "content" key.',
                status=400,
                code="rest_aipkit_no_content",
            )


async def check_caller(caller: Caller, destination: Destination) -> None:
    """Raise InsufficientScope unless the key may fill the collection with embeddings of this model.

    A bound key may fill the namespaces of its chatbots, with the model that these search with.
    """
    collections = caller.collections_of_bots(destination.store, destination.target)
    if collections and STORES[destination.store].has_namespaces:
        collections = [collection for collection in collections if collection.namespace == destination.namespace]
        if not collections:
            raise InsufficientScope("This API key may only use the namespaces of its chatbots.")
    embedding = (destination.embedding_provider, destination.embedding_model)
    if caller.bot_ids is not None:
        stored_with = await sync_to_async(embedding_of)(destination.store, destination.target)
        allowed = {(collection.embedding_provider, collection.embedding_model) for collection in collections}
        allowed.discard(("", ""))
        if stored_with:
            allowed.add(stored_with)
        if embedding in allowed or not (allowed or caller.allowed_models):
            return
    caller.require_model(*embedding)


async def store_in_order(
    documents: list[NewDocument], destination: Destination, caller: Caller, claims: Claims
) -> None:
    """Store the documents, except those that another call or import has stored while this one waited for it."""
    waited = await claims.claim_all([document for document in documents if document.has_own_id], CLAIM_PATIENCE)
    missing = list(enumerate(documents))
    if waited:
        ids = [document.parent_id for document in documents]
        hashes = await sync_to_async(stored_hashes)(destination, ids)
        if len(set(ids)) == len(ids):  # otherwise the last of those with the same id must be stored last
            missing = [(at, one) for at, one in missing if hashes.get(one.parent_id) != one.content_hash]
    positions = [*(at for at, _ in missing), len(documents)]
    stored = 0
    try:
        async for _ in ingest([one for _, one in missing], destination, caller=caller, claims=claims):
            stored += 1
    except ApiError as error:
        # The caller needs these to continue there. Texts that are sent again replace the stored ones.
        error.data |= {"completed_sources": positions[stored], "failed_source_index": positions[stored]}
        raise


def result_json(document: NewDocument) -> dict[str, Any]:
    chunks = len(document.chunks)
    return {"parent_vector_id": document.parent_id, "upserted_count": chunks, "total_chunks": chunks}
