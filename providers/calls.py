"""The single way to call a provider: with a time limit, and a usage record whatever happens."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings

from logs.usage import record_usage
from providers.adapters.thinking import without_unmarked_thinking
from providers.base import Capability, CompletionChunk, CompletionRequest, Provider, Usage
from providers.tokens import estimate_usage
from providers.upstream_errors import EmptyAnswer, no_answer_in_time, no_end_in_time
from puffer.api import ApiError, Caller, StorageFull
from puffer.runtime import is_storage_full
from puffer.text import without_control_characters

CLIENT_LEFT = 499


@dataclass
class ProviderCall:
    """The measurements of a call, complete once it has ended."""

    usage: Usage | None = None
    images: int = 0
    milliseconds: int = 0
    cost: Decimal | None = None  # in US dollars; None if it follows from the usage


class StreamedCall(ProviderCall):
    """A streamed completion: `async for chunk in call`. `text` is what has arrived so far.

    The time limits apply to each step and not to the loop, because the time in which the loop sends a chunk to a slow
    visitor is not the provider's.
    """

    def __init__(self, provider: Provider, request: CompletionRequest, chunks: AsyncGenerator[CompletionChunk, None]):
        super().__init__()
        self.provider, self.request, self.chunks = provider, request, chunks
        self.silence = settings.COMPLETION_TIMEOUT
        self.deadline = asyncio.get_running_loop().time() + settings.STREAM_TIMEOUT
        self.pieces: list[str] = []
        self.finish_reason: str | None = None  # None until it has ended
        self.failed = False

    def __aiter__(self) -> "StreamedCall":
        return self

    async def __anext__(self) -> CompletionChunk:
        try:
            chunk = await self.next_in_time()
            while not (chunk.text or chunk.finish_reason):  # a heartbeat: the time limit starts again
                chunk = await self.next_in_time()
        except ApiError:
            self.failed = True
            raise
        self.pieces.append(chunk.text)
        if chunk.finish_reason:
            self.finish_reason, self.usage = chunk.finish_reason, chunk.usage
        return chunk

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def answer(self) -> str:
        """Return the text, once it has ended, without thinking that the stream could not hide."""
        return without_unmarked_thinking(self.text)

    @property
    def is_cut_off(self) -> bool:
        """Return whether the provider bills tokens that it did not report. A failure without any text costs nothing."""
        return self.finish_reason is None and (bool(self.pieces) or not self.failed)

    async def next_in_time(self) -> CompletionChunk:
        now = asyncio.get_running_loop().time()
        if now >= self.deadline:  # also if the next chunk has already arrived
            raise no_end_in_time(self.provider, settings.STREAM_TIMEOUT)
        try:
            async with asyncio.timeout_at(min(self.deadline, now + self.silence)):
                return await anext(self.chunks)
        except TimeoutError as error:
            if now + self.silence < self.deadline:
                raise no_answer_in_time(self.provider, Capability.COMPLETION, self.silence) from error
            raise no_end_in_time(self.provider, settings.STREAM_TIMEOUT) from error


def time_limit(capability: Capability) -> float:
    return settings.IMAGE_TIMEOUT if capability is Capability.IMAGE else settings.COMPLETION_TIMEOUT


@asynccontextmanager
async def provider_call(
    provider: Provider,
    capability: Capability,
    model: str,
    *,
    caller: Caller | None = None,
    chatbot_id: int | None = None,
    operation: str = "",
    seconds: float | None = None,
) -> AsyncIterator[ProviderCall]:
    """Limit the time of an adapter's call and record its usage, also for errors and interrupted calls.

    `operation` (the capability's by default) is what the record names; `seconds` is a shorter time limit.
    """
    call = ProviderCall()
    seconds = seconds or time_limit(capability)
    with recorded(call, provider.slug, operation or capability.value, model, caller, chatbot_id):
        try:
            async with asyncio.timeout(seconds):
                yield call
        except TimeoutError as error:
            raise no_answer_in_time(provider, capability, seconds) from error


@asynccontextmanager
async def streamed_call(
    provider: Provider, request: CompletionRequest, *, caller: Caller | None = None, chatbot_id: int | None = None
) -> AsyncIterator[StreamedCall]:
    """Stream a completion. However the block ends, the connection is closed and the usage recorded.

    The usage of an answer that was stopped early is estimated.
    """
    async with aclosing(provider.stream(request)) as chunks:
        call = StreamedCall(provider, request, chunks)
        with recorded(call, provider.slug, Capability.COMPLETION.value, request.model, caller, chatbot_id):
            try:
                yield call
            finally:
                if call.is_cut_off:
                    call.usage = estimate_usage(request, call.text)


@contextmanager
def recorded(
    call: ProviderCall,
    provider: str,
    operation: str,
    model: str,
    caller: Caller | None,
    chatbot_id: int | None,
) -> Iterator[None]:
    """Write one usage record, whatever happens in the block. Raise StorageFull before the block if there is no room.

    `provider` is the slug of a provider, or the name of another server that is paid.
    """
    if is_storage_full():
        raise StorageFull
    started = time.perf_counter()
    status, error_code = 200, ""
    try:
        yield
    except ApiError as error:
        status, error_code = error.status, error.code
        if isinstance(error, EmptyAnswer):
            call.usage = error.usage
        raise
    except (asyncio.CancelledError, GeneratorExit):  # GeneratorExit: the block is in a generator that was closed
        status = CLIENT_LEFT
        raise
    except BaseException:
        status = 500
        raise
    finally:
        call.milliseconds = round((time.perf_counter() - started) * 1000)
        usage = call.usage
        record_usage(
            operation=operation,
            provider=provider,
            model=without_control_characters(model)[:200],
            api_key_id=caller.key_id if caller else None,
            caller=caller.name if caller else "",
            chatbot_id=chatbot_id,
            input_tokens=usage.input_tokens if usage else None,
            # Some providers count reasoning tokens only in the total. They are billed as output.
            output_tokens=max(usage.output_tokens, usage.total_tokens - usage.input_tokens) if usage else None,
            total_tokens=usage.total_tokens if usage else None,
            images=call.images,
            milliseconds=call.milliseconds,
            status=status,
            error_code=error_code,
            **({} if call.cost is None else {"cost": call.cost}),
        )
