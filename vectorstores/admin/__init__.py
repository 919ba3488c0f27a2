"""The admin pages for knowledge: stores, rerankers, collections, documents, sources and uploads."""

from vectorstores.admin import (  # noqa: F401 - registers their pages
    collections,
    documents,
    rerankers,
    source_pages,
    sources,
    stores,
    uploads,
)
