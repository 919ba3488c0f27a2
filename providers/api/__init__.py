"""POST /generate, /embeddings and /images/generate."""

from providers.api.views import MAX_MESSAGES, UPSTREAM_STATUSES, USAGE, slugs, usage_json

__all__ = [
    "MAX_MESSAGES",
    "UPSTREAM_STATUSES",
    "USAGE",
    "slugs",
    "usage_json",
]
