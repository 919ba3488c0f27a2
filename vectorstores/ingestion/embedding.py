"""Chunks' texts -> vectors, in batches as large as the provider likes them."""

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from providers.base import EmbeddingRequest
from providers.upstream_errors import EmptyAnswer
from providers.use_cases import embed
from puffer.api import ApiError, Caller
from puffer.net import parse_retry_after
from puffer.runtime import backoff
from vectorstores.base import Floats

# Texts in a call. Ollama and our own model compute on a CPU, ours one text after another, so calls wait for each other
# there: on a busy machine larger ones would take longer than a call may.
BATCH_SIZES = {"google": 100, "ollama": 16, "local": 4}
BATCH_SIZE = 50
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the next attempt


class Pace:
    """How fast a provider lets itself be called: once it says 429 or 503, all of an ingestion's calls wait.

    `patience` is how many seconds in a row it may keep us waiting before that counts as a failure; 0: not at all.
    """

    def __init__(self, patience: float = 0) -> None:
        self.patience = patience
        self.resume_at = 0.0
        self.refusals = 0
        self.waited = 0.0

    async def wait(self) -> None:
        if (seconds := self.resume_at - time.monotonic()) > 0:
            await asyncio.sleep(seconds)

    def slow_down(self, error: ApiError) -> bool:
        """Whether the call shall be tried again, after a wait(). Not if nothing but other settings would help."""
        if error.status not in (429, 503) or is_of_settings(error) or self.waited >= self.patience:
            return False
        now = time.monotonic()
        if now >= self.resume_at:  # otherwise another call has set it already, and this call waits with that one
            self.refusals += 1
            asked = parse_retry_after(error.headers.get("Retry-After", ""))
            seconds = asked or backoff(self.refusals, FIRST_WAIT, LONGEST_WAIT)
            seconds = min(seconds, LONGEST_WAIT, self.patience - self.waited)
            self.resume_at = now + seconds
            self.waited += seconds
        return True

    def went_well(self) -> None:
        self.refusals, self.waited = 0, 0.0


def is_of_settings(error: ApiError) -> bool:
    """That a provider or a store is not set up: nothing was asked, and waiting does not help."""
    return error.code.startswith(("missing_", "invalid_api_key", "invalid_base_url", "provider_not_"))


async def embed_texts(
    provider: str, model: str, texts: Sequence[str], *, caller: Caller | None = None, pace: Pace | None = None
) -> list[Floats]:
    """One vector per text, in order, all finite and of one dimension.

    A batch whose count is wrong is sent once more, text by text. Raises ApiError.
    """
    pace = pace or Pace()
    try:
        return await _embed_batch(provider, model, texts, caller, pace)
    except EmptyAnswer as wrong_count:
        if len(texts) == 1:
            raise _count_mismatch() from wrong_count
    vectors: list[Floats] = []
    for text in texts:
        try:
            vectors += await _embed_batch(provider, model, [text], caller, pace)
        except EmptyAnswer as wrong_count:
            raise _count_mismatch() from wrong_count
    return vectors


async def _embed_batch(
    provider: str, model: str, texts: Sequence[str], caller: Caller | None, pace: Pace
) -> list[Floats]:
    request = EmbeddingRequest(model=model, texts=texts, task_type="RETRIEVAL_DOCUMENT")
    while True:
        await pace.wait()
        try:
            embeddings = await embed(caller, provider, request)
        except ApiError as error:
            if pace.slow_down(error):
                continue
            raise
        pace.went_well()
        return [as_floats(vector) for vector in embeddings.vectors]


def as_floats(vector: Sequence[float] | str | None) -> Floats:
    values = np.asarray(vector, dtype=np.float32)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ApiError(
            "The provider sent an embedding that is not only numbers.",
            status=502,
            code="vector_text_embedding_count_mismatch",
        )
    return values


def _count_mismatch() -> ApiError:
    return ApiError(
        "The provider sent another number of embeddings than there are texts.",
        status=502,
        code="vector_text_embedding_count_mismatch",
    )
