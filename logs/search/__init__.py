"""Full-text search of conversations."""

from logs.search.normalize import normalized

__all__ = ["normalized"]
