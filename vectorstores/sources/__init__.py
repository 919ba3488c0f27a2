"""The sources of content: files, rows in files, web pages, sitemaps, WordPress exports and uploads."""

from vectorstores.ingestion.rows import short_hash
from vectorstores.sources.uploaded import ANSWERED, answer_item

__all__ = [
    "ANSWERED",
    "answer_item",
    "short_hash",
]
