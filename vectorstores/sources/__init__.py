"""What an import reads: files, rows, web pages, sitemaps and WordPress exports."""

from vectorstores.sources.rows import Row, short_hash, stable_id
from vectorstores.sources.uploaded import ANSWERED

__all__ = [
    "ANSWERED",
    "Row",
    "short_hash",
    "stable_id",
]
