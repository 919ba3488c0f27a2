"""The base of drivers for stores with an HTTP API: sessions, error handling, batches."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import numpy as np
from django.conf import settings
from django.core.exceptions import ValidationError

from puffer.api import ApiError
from puffer.net import Answer, NoAnswer, RestSession, retry_after_headers, validate_base_url
from puffer.text import one_line
from vectorstores.base import Floats, StoreSettings, Vector, VectorStore
from vectorstores.errors import MAX_TEXT, StoreNotConfigured, status_of

BATCH = 100  # vectors in a request
TAG = re.compile(r"<[^<>]*>")

Item = TypeVar("Item")


class RestStore(VectorStore):
    """A store with an HTTP API."""

    missing_code: ClassVar[str]  # of the error when the API key or the address is missing
    missing_text: ClassVar[str]

    def __init__(self, store_settings: StoreSettings) -> None:
        super().__init__(store_settings)
        self.refuse_unconfigured()
        self.session = self.session_for(self.root())

    def refuse_unconfigured(self) -> None:
        if not self.is_complete():
            raise StoreNotConfigured(self.missing_text, code=self.missing_code)
        try:
            validate_base_url(self.settings.base_url)
        except ValidationError as error:
            raise StoreNotConfigured(
                f"{self.label}'s address is not allowed. {error.message}", code="invalid_base_url"
            ) from None
        if not (self.settings.api_key.isascii() and self.settings.api_key.isprintable()):
            raise StoreNotConfigured(
                f"The saved {self.label} API key contains invalid characters. Copy it again.",
                code="invalid_api_key",
            )

    def is_complete(self) -> bool:
        return bool(self.settings.api_key if self.needs_api_key else self.settings.base_url)

    def root(self) -> str:
        """Return the base URL of all paths."""
        return self.settings.base_url

    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """Return the headers that authenticate us."""

    def session_for(self, base_url: str) -> RestSession:
        return RestSession(base_url, self.headers(), settings.VECTOR_STORE_TIMEOUT)

    def call(
        self, method: str, path: str, body: Any = None, *, session: RestSession | None = None, **options: Any
    ) -> Answer:
        """Return the answer, whatever its status. Raise ApiError if no answer came."""
        try:
            return (session or self.session).call(method, path, body, **options)
        except NoAnswer as error:
            raise self.no_answer(error) from error

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Return the JSON of a successful answer. Raise ApiError."""
        answer = self.call(method, path, body, **options)
        if answer.status >= 300:
            raise self.failure(answer)
        return self.read(answer)

    def read(self, answer: Answer) -> Any:
        try:
            return answer.json()
        except NoAnswer as error:
            raise self.no_answer(error) from error

    def no_answer(self, error: NoAnswer) -> ApiError:
        status = 504 if error.timed_out else 502
        return ApiError(f"{self.label} {error}", status=status, code=f"{self.slug}_api_error")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raise ApiError if the block fails to read an answer, in which anything may be missing or of another type."""
        try:
            yield
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ApiError(
                f"{self.label} sent an answer that cannot be read.", status=502, code=f"{self.slug}_api_error"
            ) from error

    def failure(self, answer: Answer) -> ApiError:
        status = status_of(answer.status)
        return ApiError(
            f"{self.label} API Error ({answer.status}): {self.message_of(answer)}",
            status=status,
            code=f"{self.slug}_api_error",
            headers=retry_after_headers(status, answer.headers.get("retry-after", "")),
        )

    def message_of(self, answer: Answer) -> str:
        """Return the store's error message on one line, without our API key."""
        if 300 <= answer.status < 400:
            return "The store answered with a redirect, which is not followed. Check the base URL."
        try:
            text = self.error_text(answer.json())
        except (NoAnswer, LookupError, TypeError, AttributeError):
            text = TAG.sub(" ", answer.body[:5000].decode(errors="replace"))
        text = one_line(str(text))
        if self.settings.api_key:
            text = text.replace(self.settings.api_key, "[redacted]")
        return text[:MAX_TEXT] or "no reason given"

    @abstractmethod
    def error_text(self, body: Any) -> Any:
        """Return the error message in the JSON. May raise LookupError, TypeError or AttributeError."""


def in_batches(items: Sequence[Item], size: int = BATCH) -> Iterator[Sequence[Item]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def by_total_chunks(vectors: Sequence[Vector]) -> dict[int, list[str]]:
    """Return the ids of the documents by their number of chunks.

    The ids of chunks derive from the document's id and the chunk's index. So a document with as many chunks as before
    was overwritten completely, and leftover chunks of any other have a different total_chunks.
    """
    groups: dict[int, dict[str, None]] = {}
    for vector in vectors:
        total = vector.metadata["total_chunks"]
        assert isinstance(total, int)
        groups.setdefault(total, {})[vector.parent_id] = None
    return {total: list(ids) for total, ids in groups.items()}


def cosine(a: Floats, b: Any) -> float | None:
    """Return the cosine of two vectors; None if the second, as the store sent it, is not a vector of that length."""
    try:
        other = np.asarray(b, dtype=np.float64)
        if other.shape != a.shape:
            return None
        lengths = float(np.linalg.norm(a) * np.linalg.norm(other))
        score = float(a @ other) / lengths if lengths else 0.0
    except (ValueError, TypeError):
        return None
    return in_range(score)


def in_range(score: Any) -> float | None:
    """Return a score within -1 and 1; None if it is not a finite number."""
    if isinstance(score, bool) or not isinstance(score, int | float) or not np.isfinite(score):
        return None
    return max(-1.0, min(1.0, float(score)))
