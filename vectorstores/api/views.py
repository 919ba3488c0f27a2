"""POST /vector-stores/upsert."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from providers.api import UPSTREAM_STATUSES, slugs
from providers.base import Capability
from puffer.api import ApiError, Array, AsyncAPIView, Object, Parameters, String, caller_of
from puffer.models import Scope
from puffer.text import storable
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument, make_document
from vectorstores.ingestion.pipeline import ingest
from vectorstores.registry import STORES

MAX_ITEMS = 1000
EMBEDDING_PROVIDERS = ["openai", "google", "azure", "openrouter"]  # the original's, in its order
EMBEDDING_PROVIDERS += [slug for slug in slugs(Capability.EMBEDDING) if slug not in EMBEDDING_PROVIDERS]


class UpsertView(AsyncAPIView):
    """POST /vector-stores/upsert: texts, cut into chunks and embedded, into a collection."""

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
        target_id=String(required=True, description="The index or collection; for Chroma its name or id."),
        vectors=Array(
            Object(
                {
                    "content": String(required=True),
                    "id": String(description="A text with an id that is there already replaces it."),
                    "metadata": Object(description="Texts, numbers, booleans and lists of texts are kept."),
                    "uri": String(),
                }
            ),
            required=True,
            description=f"At most {MAX_ITEMS} texts.",
        ),
        embedding_provider=String(required=True, enum=EMBEDDING_PROVIDERS),
        embedding_model=String(required=True),
        namespace=String(description="Pinecone and the local store; the others have none and ignore it."),
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
        refuse(destination, vectors)
        documents = [make_document(item, destination) for item in vectors]
        stored = 0
        try:
            async for _ in ingest(documents, destination, caller=caller_of(request)):
                stored += 1
        except ApiError as error:
            # So that the caller knows where to go on; whatever is sent again replaces what is there.
            error.data |= {"completed_sources": stored, "failed_source_index": stored}
            raise
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


def refuse(destination: Destination, vectors: list[dict[str, Any]]) -> None:
    """Raise what is wrong with a call before anything of it is sent anywhere."""
    if not vectors:
        raise ApiError(
            'The "vectors" parameter must be a non-empty array.', status=400, code="rest_aipkit_invalid_vectors"
        )
    if len(vectors) > MAX_ITEMS:
        raise ApiError(
            f"A call takes at most {MAX_ITEMS} texts, not {len(vectors)}.",
            status=400,
            code="rest_aipkit_invalid_vectors",
        )
    if not destination.target:
        raise ApiError("target_id must not be blank.", status=400, code="missing_vector_text_target")
    if not destination.embedding_model:
        raise ApiError("embedding_model must not be blank.", status=400, code="missing_vector_text_embedding_config")
    for item in vectors:
        if not storable(item["content"]).strip():
            raise ApiError(
                'Each object in the "vectors" array must have a non-empty "content" key.',
                status=400,
                code="rest_aipkit_no_content",
            )


def result_json(document: NewDocument) -> dict[str, Any]:
    chunks = len(document.chunks)
    return {"parent_vector_id": document.parent_id, "upserted_count": chunks, "total_chunks": chunks}
