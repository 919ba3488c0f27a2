"""POST /generate, /embeddings and /images/generate."""

from providers.api.views import UPSTREAM_STATUSES, USAGE, slugs, usage_json

__all__ = [
    "UPSTREAM_STATUSES",
    "USAGE",
    "slugs",
    "usage_json",
]
