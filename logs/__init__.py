"""Conversations, usage, search and webhooks: what happened, and what it cost."""

# The front doors: the modules and packages that other apps may import.
__all__ = ["conversations", "models", "search", "usage", "webhooks"]
