"""Embed the chunks of documents, in batches of the size that suits the provider."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from providers.base import EmbeddingRequest
from providers.upstream_errors import EmptyAnswer
from providers.use_cases import embed
from puffer.api import ApiError, Caller, StorageFull
from puffer.net import parse_retry_after
from puffer.runtime import backoff
from vectorstores.base import Floats, Vector
from vectorstores.ingestion.destination import Destination
from vectorstores.ingestion.documents import NewDocument

# Texts in a call. Ollama and the bundled model compute on a CPU (the bundled one a single text at a time), so calls
# wait for each other: on a busy machine a larger call would time out.
BATCH_SIZES = {"google": 100, "ollama": 16, "local": 4}
BATCH_SIZE = 50
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the next attempt


def batch_size(provider: str) -> int:
    """Return how many texts to send in one call of the provider."""
    return BATCH_SIZES.get(provider, BATCH_SIZE)


class Embedder:
    """An embedder of the chunks of documents, with a bounded number of calls at a time."""

    def __init__(
        self,
        destination: Destination,
        caller: Caller | None,
        batch_size: int,
        concurrency: int,
        pace: "SharedBackoff",
    ) -> None:
        self.destination = destination
        self.caller = caller
        self.batch_size = batch_size
        self.calls = asyncio.Semaphore(concurrency)
        self.pace = pace

    async def embed(self, documents: Sequence[NewDocument]) -> list[Vector]:
        """Return the vectors of all chunks, in order. Documents that bring their embeddings are not sent anywhere."""
        texts = [
            document.text_to_embed(index)
            for document in documents
            if not document.values
            for index in range(len(document.chunks))
        ]
        starts = range(0, len(texts), self.batch_size)
        batches = [asyncio.create_task(self.embed_batch(texts[at : at + self.batch_size])) for at in starts]
        try:
            embedded = iter([floats for batch in batches for floats in await batch])
        finally:
            await cancel(batches)
        return [
            Vector(
                document.vector_id(index),
                document.values[index] if document.values else next(embedded),
                chunk.text,
                document.vector_metadata(index),
            )
            for document in documents
            for index, chunk in enumerate(document.chunks)
        ]

    async def embed_batch(self, texts: Sequence[str]) -> list[Floats]:
        async with self.calls:
            provider, model = self.destination.embedding_provider, self.destination.embedding_model
            return await embed_texts(provider, model, texts, caller=self.caller, pace=self.pace)


async def cancel(tasks: "Sequence[asyncio.Task[Any]]") -> None:
    """Cancel the tasks that still run, and retrieve the exceptions of the others."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class SharedBackoff:
    """The backoff that all embedding calls of one import share: a 429 or 503 makes all of them wait.

    `patience` is how many seconds in a row they wait before the provider's error is raised; 0 raises it at once.
    """

    def __init__(self, patience: float = 0) -> None:
        self.patience = patience
        self.resume_at = 0.0
        self.refusals = 0
        self.waited = 0.0

    async def wait(self) -> None:
        if (seconds := self.resume_at - time.monotonic()) > 0:
            await asyncio.sleep(seconds)

    def may_retry(self, error: ApiError) -> bool:
        """Return whether to wait() and call again after this error."""
        if (
            isinstance(error, StorageFull)
            or error.status not in (429, 503)
            or needs_configuration(error)
            or self.waited >= self.patience
        ):
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

    def reset(self) -> None:
        self.refusals, self.waited = 0, 0.0


def needs_configuration(error: ApiError) -> bool:
    """Return whether a provider or store is not configured, so that nothing was sent and a retry cannot succeed."""
    return error.code.startswith(("missing_", "invalid_api_key", "invalid_base_url", "provider_not_"))


async def embed_texts(
    provider: str,
    model: str,
    texts: Sequence[str],
    *,
    caller: Caller | None = None,
    pace: SharedBackoff | None = None,
) -> list[Floats]:
    """Return one vector per text, in order, all finite and of one dimension.

    If the provider returns the wrong number of embeddings, the texts are sent once more, one by one. Raise ApiError.
    """
    pace = pace or SharedBackoff()
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
    provider: str, model: str, texts: Sequence[str], caller: Caller | None, pace: SharedBackoff
) -> list[Floats]:
    request = EmbeddingRequest(model=model, texts=texts, task_type="RETRIEVAL_DOCUMENT")
    while True:
        await pace.wait()
        try:
            embeddings = await embed(caller, provider, request)
        except ApiError as error:
            if pace.may_retry(error):
                continue
            raise
        pace.reset()
        return [as_floats(vector) for vector in embeddings.vectors]


def as_floats(vector: Sequence[float] | str | None) -> Floats:
    """Return an embedding as float32. Raise ApiError if it is empty or contains anything but finite numbers."""
    values = np.asarray(vector, dtype=np.float32)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ApiError(
            "The provider sent an embedding that is empty or contains invalid numbers.",
            status=502,
            code="vector_text_embedding_count_mismatch",
        )
    return values


def _count_mismatch() -> ApiError:
    return ApiError(
        "The provider sent a different number of embeddings than there are texts.",
        status=502,
        code="vector_text_embedding_count_mismatch",
    )
