"""The sources of a reply, as API callers and visitors see them, and as the log stores them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from chatbots.conversation.citations import source_numbers
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
            "number": {"type": "integer", "description": "The n of the marks [n] in the reply."},
            "cited": {"type": "boolean", "description": "Whether the reply marks it."},
        },
    },
}


def sources_json(passages: Sequence[Passage], cited: Collection[int] = ()) -> list[dict[str, Any]]:
    """Return each document once, with its best passage. `cited` are the numbers that the reply marks."""
    best: dict[int, Passage] = {}
    for number, passage in zip(source_numbers(passages), passages, strict=True):
        if number not in best or passage.score > best[number].score:
            best[number] = passage
    return [
        {
            "title": without_bidi(passage.title),
            "url": passage.url or None,
            "score": round(passage.score, 4),
            "excerpt": without_bidi(passage.excerpt),
            "number": number,
            "cited": number in cited,
        }
        for number, passage in best.items()
    ]


def passages_for_log(passages: Sequence[Passage], bot: Chatbot) -> list[dict[str, Any]]:
    """Return what the log stores of the passages in a prompt."""
    numbers = source_numbers(passages)
    return [passage_for_log(passage, bot, number) for number, passage in zip(numbers, passages, strict=True)]


def passage_for_log(passage: Passage, bot: Chatbot, number: int) -> dict[str, Any]:
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
        "number": number,
        "cited": False,
        **{
            name: metadata[name]
            for name in ("chunk_index", "total_chunks", "char_start", "char_end")
            if name in metadata
        },
    }


def logged_sources(passages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sources of logged passages: shorter excerpts, and each number once, or each title and address."""
    found: dict[Any, dict[str, Any]] = {}
    for passage in passages:
        title, url = str(passage.get("title") or ""), str(passage.get("url") or "")
        source = {
            "title": without_bidi(title),
            "url": url or None,
            "score": passage.get("score", 0.0),
            "excerpt": without_bidi(str(passage.get("content_preview", ""))),
        }
        if "number" in passage:  # not in logs of earlier versions
            source |= {"number": passage["number"], "cited": bool(passage.get("cited"))}
        found.setdefault(passage.get("number") or (title, url), source)
    return list(found.values())
