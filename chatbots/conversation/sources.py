"""The sources of a reply, as API callers and visitors see them, and as the log stores them."""

from collections.abc import Mapping, Sequence
from typing import Any

from chatbots.models import Chatbot
from puffer.text import without_bidi
from vectorstores.retrieval import Passage

SCHEMA: dict[str, Any] = {
    "type": "array",
    "description": "Only for a chatbot that uses knowledge and shows its sources.",
    "items": {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "url": {"type": ["string", "null"]},
            "score": {"type": "number", "description": "Cosine similarity, -1 to 1."},
            "excerpt": {"type": "string"},
        },
    },
}


def sources_json(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """Return each document once, with its best passage."""
    best: dict[tuple[str, str], Passage] = {}
    for passage in passages:
        document = (passage.collection, passage.document_id)
        if document not in best or passage.score > best[document].score:
            best[document] = passage
    return [
        {
            "title": without_bidi(passage.title),
            "url": passage.url or None,
            "score": round(passage.score, 4),
            "excerpt": without_bidi(passage.excerpt),
        }
        for passage in best.values()
    ]


def passage_for_log(passage: Passage, bot: Chatbot) -> dict[str, Any]:
    """Return what the log stores of a passage, under AI Puffer's names."""
    metadata = passage.match.metadata
    place = "index_name" if bot.vector_store_provider == "pinecone" else "collection_name"
    return {
        "provider": bot.vector_store_provider,
        place: passage.collection,
        "namespace": bot.namespace,
        "result_id": passage.match.id,
        "score": round(passage.score, 4),
        "content_preview": " ".join(passage.text.split()[:10]),
        "title": passage.title,
        "url": passage.url,
        **{
            name: metadata[name]
            for name in ("chunk_index", "total_chunks", "char_start", "char_end")
            if name in metadata
        },
    }


def logged_sources(passages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sources of logged passages: shorter excerpts, and each title and address once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for passage in passages:
        title, url = str(passage.get("title") or ""), str(passage.get("url") or "")
        source = {
            "title": without_bidi(title),
            "url": url or None,
            "score": passage.get("score", 0.0),
            "excerpt": without_bidi(str(passage.get("content_preview", ""))),
        }
        found.setdefault((title, url), source)
    return list(found.values())
