"""The calls of every capability, and the codes of the errors that they end with."""

from providers.base import Capability
from providers.registry import providers_with
from tests.support.providers.answers import COMPLETIONS, EMBEDDINGS, IMAGES
from tests.support.providers.failures import NO_TEXT_CODES

COMPLETION, EMBEDDING, IMAGE = Capability.COMPLETION, Capability.EMBEDDING, Capability.IMAGE


# Each provider with each of its capabilities.
CALLS = [
    (provider.slug, capability)
    for capability in (Capability.COMPLETION, Capability.EMBEDDING, Capability.IMAGE)
    for provider in providers_with(capability)
]


# One provider per adapter, with each of its capabilities.
ADAPTERS = [(slug, capability) for slug, capability in CALLS if slug in ("openai", "claude", "google")]


# One provider per protocol.
PROTOCOLS = [("openai", COMPLETION), ("claude", COMPLETION), ("google", COMPLETION), ("google", IMAGE)]


GOOD = {COMPLETION: COMPLETIONS, EMBEDDING: EMBEDDINGS, IMAGE: IMAGES}


GOOGLE_IMAGE_CODES = {
    400: "google_interactions_invalid_request",
    401: "google_interactions_auth_error",
    403: "google_interactions_auth_error",
    404: "google_interactions_not_found",
    429: "google_interactions_rate_limited",
    **dict.fromkeys((500, 501, 502, 503, 504, 529), "google_interactions_server_error"),
}


def code_for(slug, capability, kind, status=0):
    """Return the error code for a `kind`: api, transport, unreadable (not JSON) or empty (JSON without a result)."""
    if capability is COMPLETION:
        codes = {"api": "api_error", "transport": "http_request_failed", "unreadable": "json_decode_error"}
        return codes.get(kind) or NO_TEXT_CODES[slug]
    if capability is EMBEDDING:
        suffix = {"api": "api_error_logic", "transport": "http_error_logic"}.get(kind, "no_data_logic")
        return f"{slug}_embedding_{suffix}"
    if slug == "google":
        other = {
            "api": "google_interactions_api_error",
            "transport": "google_interactions_http_error",
            "unreadable": "google_interactions_invalid_json",
            "empty": "google_interactions_missing_image_output",
        }
        return GOOGLE_IMAGE_CODES.get(status, other[kind])
    suffixes = {"api": "api_error", "transport": "http_error", "unreadable": "api_error", "empty": "no_data"}
    return f"{slug}_image_{suffixes[kind]}"
