"""What a reply is drawn from, as whoever asked gets to see it."""

from collections.abc import Mapping, Sequence
from typing import Any

from vectorstores.retrieve import Passage

SCHEMA: dict[str, Any] = {
    "type": "array",
    "description": "Only of a chatbot that uses knowledge and shows its sources.",
    "items": {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "url": {"type": ["string", "null"]},
            "score": {"type": "number", "description": "The cosine, -1 to 1."},
            "excerpt": {"type": "string"},
        },
    },
}


def sources_json(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """Each document once, with its best passage."""
    best: dict[tuple[str, str], Passage] = {}
    for passage in passages:
        document = (passage.collection, passage.document_id)
        if document not in best or passage.score > best[document].score:
            best[document] = passage
    return [
        {
            "title": passage.title,
            "url": passage.url or None,
            "score": round(passage.score, 4),
            "excerpt": passage.excerpt,
        }
        for passage in best.values()
    ]


def logged_sources(passages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same of what the log keeps: less of the text, and each title and address once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for passage in passages:
        title, url = str(passage.get("title") or ""), str(passage.get("url") or "")
        source = {
            "title": title,
            "url": url or None,
            "score": passage.get("score", 0.0),
            "excerpt": passage.get("content_preview", ""),
        }
        found.setdefault((title, url), source)
    return list(found.values())
