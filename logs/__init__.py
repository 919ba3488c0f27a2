"""Logged conversations, usage and costs, search and webhooks."""

# The modules and packages that other apps may import.
__all__ = ["conversations", "models", "search", "usage", "webhooks"]
