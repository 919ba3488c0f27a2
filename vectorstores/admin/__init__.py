"""The admin pages for knowledge: stores, rerankers, collections, documents and uploads."""

from vectorstores.admin import collections, documents, rerankers, stores, uploads  # noqa: F401 - registers their pages
