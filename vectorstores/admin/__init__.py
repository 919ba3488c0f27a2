"""The admin pages for knowledge: stores, collections, documents and uploads."""

from vectorstores.admin import collections, documents, stores, uploads  # noqa: F401 - registers their pages
