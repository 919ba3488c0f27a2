"""Failures of vector stores as ApiErrors. The codes are those of AI Puffer."""

from puffer.api import ApiError

PASSED_ON = {400, 404, 408, 409, 413, 422, 429}
MAX_TEXT = 1000  # characters of a store's error message


class CollectionNotFound(ApiError):
    status = 404
    code = "vector_collection_not_found"

    def __init__(self, label: str, target: str) -> None:
        super().__init__(f"{label} has no collection named {target[:200]!r}.")


class DimensionMismatch(ApiError):
    status = 400
    code = "vector_dimension_mismatch"

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"Vector dimension mismatch. Expected {expected}, got {got}.")


class StoreNotConfigured(ApiError):
    """A store whose settings are incomplete. `code` says what is missing, such as missing_qdrant_url."""

    status = 503


def status_of(upstream_status: int) -> int:
    """Return the status to answer with: errors the caller can fix pass through, all others become a 502 or 503."""
    if upstream_status in PASSED_ON:
        return upstream_status
    return 503 if upstream_status == 503 else 502
