"""The parts that the answers of all protocols share: text in pieces, a finish reason, token counts."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import aiohttp
import httpx2

from providers.adapters.answer_events import DONE, events_of, object_in
from providers.adapters.thinking import ThinkingFilter, without_unmarked_thinking
from providers.base import Capability, Completion, CompletionChunk, Provider, Usage
from providers.http_client import UnusableAnswer
from providers.upstream_errors import broken_off, ended_by_failure, upstream_errors, without_text
from puffer.text import storable

# The vendors' finish reasons in lower case -> ours. One in FAILURES raises an error, any other is "stop".
FINISH_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",  # Mistral
    "model_context_window_exceeded": "length",  # Anthropic
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "refusal": "content_filter",  # Anthropic
    "sensitive": "content_filter",  # Zhipu
    "safety": "content_filter",  # Google, as all below
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
    "image_safety": "content_filter",
    "language": "content_filter",
    "other": "content_filter",
}
FAILURES = frozenset(
    ("error", "failed", "failure", "abort", "aborted", "cancelled", "canceled", "interrupted", "timeout")
) | {"network_error", "server_error", "insufficient_system_resource", "malformed_function_call", "malformed_response"}
NOT_ENDED = ("null", "none")  # as text: DashScope

MAX_CHARACTERS = 1_000_000  # of an answer; several times what any model writes
LAST_SECONDS = 5  # to wait, after the finish reason, for token counts and the last event


class AnswerState(ABC):
    """The part of an answer that has arrived. A subclass reads the events of one protocol."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.has_begun = False
        self.is_ending = False  # the latest event had a finish reason and no text
        self.is_closed = False  # the last event has arrived
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.thinking = ThinkingFilter()
        self.length = 0
        self.high_surrogate = ""  # a lone high surrogate at the end of the last piece

    @abstractmethod
    def read(self, event: dict[str, Any]) -> str | None:
        """Return the text of an event, or None if the event is no part of the answer, such as a heartbeat."""

    def finish(self, reason: Any) -> None:
        """Take the vendor's reason for the end. Raise ApiError if it is a failure."""
        if isinstance(reason, dict):  # SGLang
            reason = reason.get("type")
        if not reason or (name := reason.lower()) in NOT_ENDED:
            return
        if name in FAILURES:
            raise ended_by_failure(self.provider, name)
        self.finish_reason = FINISH_REASONS.get(name, "stop")

    def add(self, piece: str) -> str:
        """Return what can be passed on: whole characters, without thinking and leading whitespace of the answer."""
        return self.whole_characters(self.thinking.add(piece))

    def rest(self) -> str:
        return self.whole_characters(self.thinking.rest())

    def whole_characters(self, piece: str) -> str:
        text = self.high_surrogate + piece
        if not self.has_begun:
            text = text.lstrip()
        self.high_surrogate = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        self.length += len(piece)
        if self.length > MAX_CHARACTERS:
            raise UnusableAnswer(f"is longer than {MAX_CHARACTERS:,} characters")
        text = storable(with_joined_surrogates(text.removesuffix(self.high_surrogate)))
        self.has_begun = self.has_begun or bool(text)
        return text

    def last_chunk(self) -> CompletionChunk:
        """Return the final chunk. Raise ApiError if the answer ended early or without text."""
        if not self.is_closed and self.finish_reason is None:
            raise broken_off(self.provider)
        finish_reason = self.finish_reason or "stop"
        if not self.has_begun:
            raise without_text(self.provider, finish_reason, self.usage)
        return CompletionChunk(finish_reason=finish_reason, usage=self.usage)


async def read_chunks(
    answer: AnswerState, send: Callable[[], Awaitable[httpx2.Response]]
) -> AsyncGenerator[CompletionChunk, None]:
    """Call the provider, and yield the text of its answer as it arrives, then the final chunk. Raise ApiError.

    A chunk without text is a heartbeat: the model thinks, or calls a tool.
    """
    with upstream_errors(answer.provider, Capability.COMPLETION):
        is_answer = False
        async with events_of(await send()) as events:
            while not answer.is_closed and (event := await next_event(events, answer)) is not None:
                if event == DONE:
                    answer.is_closed = True
                elif (piece := answer.read(event)) is not None:
                    is_answer = True
                    answer.is_ending = answer.has_begun and answer.finish_reason is not None and not piece
                    yield CompletionChunk(answer.add(piece))
        if answer.is_closed and not is_answer and answer.finish_reason is None:
            raise ValueError("JSON without an answer")
    if text := answer.rest():
        yield CompletionChunk(text)
    yield answer.last_chunk()


async def next_event(events: AsyncGenerator[Any, None], answer: AnswerState) -> Any:
    """Return the next event, or None at the end, which a failure after the finish reason also is.

    A finish reason next to text may not be the last one: Gemini may send one with each piece.
    """
    if not answer.is_ending:
        return await anext(events, None)
    try:
        async with asyncio.timeout(LAST_SECONDS):
            return await anext(events, None)
    except (TimeoutError, httpx2.RequestError, aiohttp.ClientError):
        return None


async def whole_completion(answer: AnswerState, send: Callable[[], Awaitable[httpx2.Response]]) -> Completion:
    """Call the provider, and return its answer once it has arrived. Raise ApiError."""
    with upstream_errors(answer.provider, Capability.COMPLETION):
        response = await send()
        value = object_in(response)
        if value is not None:
            piece = answer.read(value)
            if piece is None and answer.finish_reason is None:
                raise ValueError("JSON without an answer")
            text = answer.add(piece or "") + answer.rest()
            answer.is_closed = True
    if value is None:  # a stream, or something else that the reader of streams can name

        async def received() -> httpx2.Response:
            return response

        async with aclosing(read_chunks(answer, received)) as chunks:
            text = "".join([chunk.text async for chunk in chunks])
    last = answer.last_chunk()
    assert last.finish_reason
    return Completion(without_unmarked_thinking(text).strip(), last.finish_reason, last.usage)


def with_joined_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
