"""The admin pages for conversations, usage, prices and webhooks."""

from logs.admin import conversations, usage, webhooks  # noqa: F401 - registers their pages
