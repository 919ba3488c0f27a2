"""Completions in pieces: what goes out to each provider, what comes back, and who is told when it is over."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from itertools import chain, repeat
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from logs.models import UsageEvent
from logs.usage import recorder
from providers import registry
from providers.base import Capability, CompletionChunk, CompletionRequest, Message, Sampling, Usage
from providers.calls import streamed_call
from providers.registry import PROVIDERS, get_provider
from providers.token_estimate import estimate_usage
from puffer.api.errors import ApiError
from tests.support.provider_failures import ERRORS, NO_ANSWERS, NO_TEXT_CODES
from tests.support.provider_requests import SENT
from tests.support.providers import (
    ANTHROPIC_END,
    ANTHROPIC_START,
    CHAT_DONE,
    CHAT_END,
    CHAT_STREAM,
    COMPLETIONS,
    STREAMS,
    anthropic_piece,
    chat_chunk,
    environment,
    event,
    google_chunk,
)
from tests.support.rows import crossed
from tests.support.upstream import closed_port

pytestmark = pytest.mark.django_db

HELLO = CompletionRequest("some-model", [Message("user", "Hi there")], instructions="Be nice.")
PROTOCOLS = ["openai", "claude", "google"]


def started(slug: str) -> list[bytes]:
    """The beginning of a stream that has said "Hello"."""
    return {
        "claude": [*ANTHROPIC_START, anthropic_piece("Hello")],
        "google": [google_chunk("Hello")],
    }.get(slug, [chat_chunk({"role": "assistant", "content": "Hello"})])


def piece_of(slug: str, text: str) -> bytes:
    make: dict[str, Callable[[str], bytes]] = {"claude": anthropic_piece, "google": google_chunk}
    return make.get(slug, lambda text: chat_chunk({"content": text}))(text)


def end_of(slug: str) -> list[bytes]:
    return {"claude": ANTHROPIC_END, "google": [google_chunk("", finishReason="STOP")]}.get(slug, CHAT_END)


def on_a_loop(calls: Callable[[], Any]) -> Any:
    """What `await calls()` gives, on an event loop that is left as a server leaves it."""

    @async_to_sync
    async def run() -> Any:
        try:
            return await calls()
        finally:
            await recorder.finish()
            await registry.close_clients()
            await asyncio.sleep(0)

    return run()


@asynccontextmanager
async def call_of(slug: str, request: CompletionRequest = HELLO) -> AsyncIterator[Any]:
    async with streamed_call(await get_provider(slug, Capability.COMPLETION), request) as call:
        yield call


def stream(slug: str, request: CompletionRequest = HELLO) -> list[CompletionChunk]:
    async def calls() -> list[CompletionChunk]:
        async with call_of(slug, request) as call:
            return [chunk async for chunk in call]

    return on_a_loop(calls)


def text_of(chunks: list[CompletionChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def failure_of(slug: str, request: CompletionRequest = HELLO) -> tuple[ApiError, str]:
    """How it fails, and what was said before."""
    said: list[str] = []

    async def calls() -> None:
        async with call_of(slug, request) as call:
            async for chunk in call:
                said.append(chunk.text)

    with pytest.raises(ApiError) as raised:
        on_a_loop(calls)
    return raised.value, "".join(said)


def recorded() -> tuple[int, str, int | None, int | None]:
    record = UsageEvent.objects.get()
    assert record.operation == "completion"
    return record.status, record.error_code, record.input_tokens, record.output_tokens


# Estimate of HELLO with "Hello": 16 characters in, 5 out
ESTIMATED = (4, 2)


# What comes back


def test_every_provider_is_in_every_table():
    assert STREAMS.keys() == PROVIDERS.keys()


@pytest.mark.parametrize("slug", PROVIDERS)
def test_all_providers_give_the_same_chunks(upstream, slug):
    upstream.will_stream(STREAMS[slug])
    *pieces, last = stream(slug)
    assert pieces == [CompletionChunk("H"), CompletionChunk("i!")]
    assert (last.text, last.finish_reason) == ("", "stop")
    assert (last.usage.input_tokens, last.usage.output_tokens, last.usage.total_tokens) == (11, 5, 16)
    assert recorded() == (200, "", 11, 5)


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_pieces_come_as_they_are_made(upstream, slug):
    upstream.will_stream([*started(slug), piece_of(slug, " there"), *end_of(slug)], pause=0.2)

    async def calls():
        async with call_of(slug) as call:
            return [(chunk.text, time.monotonic()) async for chunk in call]

    (first, first_at), (second, second_at), (_, last_at) = on_a_loop(calls)
    assert (first, second) == ("Hello", " there")
    assert second_at - first_at > 0.15
    assert last_at - second_at > 0.15


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("size", [1, 7])
def test_it_does_not_matter_where_a_stream_is_cut(upstream, slug, size):
    """Not even within a character or a line's end."""
    text = "Grüße 你好 🦔\n“ok”"
    content = b"".join([*started(slug), piece_of(slug, text).replace(b"\\u4f60", "你".encode()), *end_of(slug)])
    upstream.will_stream(content[at : at + size] for at in range(0, len(content), size))
    assert text_of(stream(slug)) == f"Hello{text}"


@pytest.mark.parametrize(
    "raw",
    [
        b"data:{JSON}\n\n",  # the blank is optional
        b"data: {JSON}\r\n\r\n",
        b"data: {JSON}\r\r",
        b": a comment\n\n: another\n\ndata: {JSON}\n: a third\n\n",
        b"id: 7\nretry: 3000\nevent: x\ndata: {JSON}\nunknown: field\n\n",
        b"retry: 3000\n\ndata: {JSON}\n\n",
        b"\n\n\n\ndata: {JSON}\n\n\n",
        b"data\n\ndata: {JSON}\n\n",
        b"\xef\xbb\xbfdata: {JSON}\n\n",
        b'data: {"choices": [\ndata: {"delta": {"content":\ndata: "Hello"}}]}\n\n',  # one event on several lines
    ],
)
def test_everything_that_the_standard_allows(upstream, raw):
    upstream.will_stream([raw.replace(b"{JSON}", b'{"choices": [{"delta": {"content": "Hello"}}]}'), *CHAT_END])
    assert text_of(stream("openai")) == "Hello"


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_an_event_of_64_kilobytes(upstream, slug):
    text = "0123456789abcdef" * 4096
    upstream.will_stream([*started(slug), piece_of(slug, text), *end_of(slug)])
    assert text_of(stream(slug)) == f"Hello{text}"


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        (["\ud83e", "\udd94"], ["🦔"]),  # a surrogate pair in two pieces is one character
        (["a\ud83e", "\udd94b"], ["a", "🦔b"]),
        (["a", "\udd94", "b"], ["a", "?", "b"]),
        (["a\ud83e", "b"], ["a", "?b"]),
        (["a", "\ud83e"], ["a"]),  # half a character at the very end
        (["\n\n", " Hel", "lo ", "you"], ["Hel", "lo ", "you"]),  # as complete() has it: nothing before the first word
        (["a", "\x00", "b\x00"], ["a", "b"]),  # which no database takes
        (["a\u2028b\x85c"], ["a\u2028b\x85c"]),  # no line ends in a stream of events
    ],
)
@pytest.mark.parametrize("slug", PROTOCOLS)
def test_texts_can_be_stored(upstream, slug, pieces, texts):
    upstream.will_stream([*(piece_of(slug, text) for text in pieces), *end_of(slug)])
    *chunks, _ = stream(slug)
    assert [chunk.text for chunk in chunks] == texts


@pytest.mark.parametrize(
    ("slug", "pieces"),
    [
        ("openai", [chat_chunk({"content": "Hel"}), chat_chunk({"content": "lo"}, "length"), CHAT_DONE]),
        ("openai", [chat_chunk({"content": [{"type": "text", "text": "Hello"}]}, "length"), CHAT_DONE]),
        ("openai", [chat_chunk({"content": None, "refusal": "Hello"}, "length"), CHAT_DONE]),
        ("openai", [chat_chunk({"content": "Hello"}, "length")]),  # some compatible servers have no [DONE]
        ("azure", [chat_chunk({"content": "Hello"}), event({"choices": [{"index": 0}]}), chat_chunk({}, "length")]),
        (
            "claude",
            [
                event({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm"}}),
                event({"type": "something_new"}),
                *started("claude"),
                event({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 5}}),
                ANTHROPIC_END[-1],
            ],
        ),
        (
            "google",
            [
                event({"candidates": [{"content": {"parts": [{"text": "Hm", "thought": True}, {"text": "Hel"}]}}]}),
                event({"usageMetadata": {"promptTokenCount": 11}}),
                google_chunk("lo", finishReason="MAX_TOKENS"),
            ],
        ),
    ],
)
def test_other_shapes(upstream, slug, pieces):
    upstream.will_stream(pieces)
    chunks = stream(slug)
    assert (text_of(chunks), chunks[-1].finish_reason) == ("Hello", "length")


def test_done_alone_ends_an_answer(upstream):
    upstream.will_stream([chat_chunk({"content": "Hello"}), CHAT_DONE])
    assert stream("ollama") == [CompletionChunk("Hello"), CompletionChunk(finish_reason="stop")]
    assert recorded() == (200, "", None, None)  # as with complete(): what nobody counted is not known


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_a_packed_stream(upstream, slug):
    upstream.will_stream([gzip.compress(b"".join(STREAMS[slug]))], content_encoding="gzip")
    assert text_of(stream(slug)) == "Hi!"


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_a_connection_is_used_again(upstream, slug):
    async def calls():
        for _ in range(3):
            upstream.will_stream(STREAMS[slug])
            async with call_of(slug) as call:
                assert [chunk.text async for chunk in call] == ["H", "i!", ""]

    on_a_loop(calls)
    assert upstream.connections == 1


@pytest.mark.parametrize("slug", ["openai", "claude"])
def test_an_answer_that_is_whole_need_not_end(upstream, slug):
    upstream.will_stream(STREAMS[slug], then="silent")
    assert text_of(stream(slug)) == "Hi!"
    assert upstream.client_hung_up.wait(1)


# What goes out


@pytest.mark.parametrize("slug", PROVIDERS)
def test_what_goes_out(upstream, slug):
    """The same as without streaming, and that it shall be streamed."""
    request = CompletionRequest(
        "some-model",
        [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "How are you?")],
        "You are Ada.\n\nBe brief.\n\nBe kind.",
        Sampling(0.5, 0.9, 300, 0.1, 0.2, 40, 3, ("END", "STOP"), "low", chosen=frozenset({"temperature", "top_p"})),
    )
    upstream.will_stream(STREAMS[slug])
    stream(slug, request)
    (sent,) = upstream.sent
    target, body = SENT[slug]
    if slug == "google":
        target = target.replace("generateContent", "streamGenerateContent?alt=sse")
    elif slug == "claude":
        body = {**body, "stream": True}
    else:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    assert (sent.method, sent.target, sent.json) == ("POST", target, body)
    assert sent.headers["content-type"] == "application/json"


@pytest.mark.parametrize("model", ["models/gemini-4", "gemini-4"])
def test_a_google_model_may_be_named_with_or_without_its_prefix(upstream, model):
    upstream.will_stream(STREAMS["google"])
    stream("google", CompletionRequest(model, HELLO.messages))
    assert upstream.sent[0].path == "/v1beta/models/gemini-4:streamGenerateContent"
    assert "systemInstruction" not in upstream.sent[0].json


def test_google_is_sent_its_key_in_a_header(upstream):
    upstream.will_stream(STREAMS["google"])
    stream("google")
    assert upstream.sent[0].headers["x-goog-api-key"] == "AIzaSyGoogle0123456789abcdefghijk"


@pytest.mark.parametrize(
    ("slug", "request_"),
    [
        ("azure", CompletionRequest("../x", HELLO.messages)),
        ("google", CompletionRequest("../x", HELLO.messages)),
        ("google", CompletionRequest("some-model", [])),
    ],
)
def test_what_cannot_be_asked_is_not(upstream, slug, request_):
    error, _ = failure_of(slug, request_)
    assert (error.status, error.code) == (400, "rest_aipkit_invalid_param")
    assert upstream.sent == []


# Failures before the first piece: as without streaming


@pytest.mark.parametrize(
    ("slug", "upstream_status", "status", "retry_after"),
    crossed(PROVIDERS, PROTOCOLS, [
        (429, 429, "30"), (400, 400, None), (401, 502, None), (500, 502, None), (503, 503, "30"), (529, 503, "30"),
    ]),
)  # fmt: skip
def test_an_error_status(upstream, slug, upstream_status, status, retry_after):
    body, text = ERRORS[slug]
    upstream.will_answer(body, upstream_status, {"Retry-After": "30"})
    error, said = failure_of(slug)
    assert (error.status, error.code, said) == (status, "api_error", "")
    assert error.message == f"{PROVIDERS[slug].label} API Error (HTTP {upstream_status}): {text}"
    assert error.headers.get("Retry-After") == retry_after
    assert len(upstream.sent) == 1
    assert recorded() == (status, "api_error", None, None)


@pytest.mark.parametrize(("slug", "fault", "words"), crossed(PROVIDERS, PROTOCOLS, NO_ANSWERS))
def test_no_answer(upstream, settings, slug, fault, words):
    fault(upstream, settings, COMPLETIONS[slug])
    error, _ = failure_of(slug)
    expected = (502, "http_request_failed")
    if fault.__name__ in ("break_off", "break_off_within_a_chunk"):  # what came of it was no event, nor its end
        words = ""
    assert (error.status, error.code) == expected
    assert words in error.message
    assert recorded() == (*expected, None, None)


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_a_refused_connection(settings, slug):
    with closed_port() as url:
        settings.PROVIDER_ENVIRONMENT = environment(url)
        error, _ = failure_of(slug)
    assert (error.status, error.code) == (502, "http_request_failed")
    assert recorded() == (502, "http_request_failed", None, None)


@pytest.mark.parametrize(
    ("slug", "body", "content_type", "code"),
    crossed(PROVIDERS, PROTOCOLS, [
        (b"{}", "application/json", None),
        (b"<!doctype html><title>Log in</title>", "text/html", "json_decode_error"),
        (b"<!doctype html><title>Log in</title>", "application/json", "json_decode_error"),
        (b'{"choices": [', "application/json; charset=utf-8", "json_decode_error"),
        (b"[]", "application/json", None),
        (b"", "text/event-stream", "http_request_failed"),
        (b": nothing\n\n", "text/event-stream", "http_request_failed"),
        (b"Not an event.\n\n", "text/plain", "http_request_failed"),
        (b"data: {\n\n", "text/event-stream", "json_decode_error"),
        (b"data: no JSON\n\n", "text/event-stream", "http_request_failed"),  # a heartbeat
        (b"data: " + b"[" * 100_000 + b"\n\n", "text/event-stream", "json_decode_error"),
        (b"data: 7\n\n", "text/event-stream", "http_request_failed"),
        (b"data: [7]\n\n", "text/event-stream", "http_request_failed"),
        (b'data: {"choices": 7, "type": 7, "candidates": 7}\n\n', "text/event-stream", "any"),
    ]),
)  # fmt: skip
def test_what_is_no_stream(upstream, slug, body, content_type, code):
    upstream.will_answer(body, headers={"Content-Type": content_type})
    error, said = failure_of(slug)
    assert (error.status, said) == (502, "")
    if code != "any":  # each protocol looks at another of the names
        assert error.code == (code or NO_TEXT_CODES[slug])
    assert recorded() == (502, error.code, None, None)


@pytest.mark.parametrize("slug", PROVIDERS)
def test_an_error_may_come_with_status_200(upstream, slug):
    upstream.will_answer({"error": {"message": "Slow down.", "code": 429}})
    error, _ = failure_of(slug)
    assert (error.status, error.code) == (429, "api_error")
    assert error.message == f"{PROVIDERS[slug].label} API Error (HTTP 429): Slow down."


@pytest.mark.parametrize(
    ("slug", "pieces", "code", "words"),
    [
        *[(slug, end_of(slug), NO_TEXT_CODES[slug], "without text") for slug in PROVIDERS],
        *[(slug, [piece_of(slug, " \n"), *end_of(slug)], NO_TEXT_CODES[slug], "without text") for slug in PROVIDERS],
        ("openai", [chat_chunk({}, "length"), *CHAT_END[1:]], NO_TEXT_CODES["openai"], "token limit"),
        ("azure", [chat_chunk({}, "content_filter"), *CHAT_END[1:]], "content_filter_logic", "withheld"),
        (
            "deepseek",
            [chat_chunk({"reasoning_content": "Hm."}), chat_chunk({}, "length"), *CHAT_END[1:]],
            NO_TEXT_CODES["deepseek"],
            "token limit",
        ),
        (
            "claude",
            [
                *ANTHROPIC_START,
                event({"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 5}}),
                ANTHROPIC_END[-1],
            ],
            "content_filter",
            "withheld",
        ),
        (
            "google",
            [
                event(
                    {
                        "promptFeedback": {"blockReason": "SAFETY"},
                        "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 5},
                    }
                )
            ],
            NO_TEXT_CODES["google"],
            "withheld",
        ),
    ],
)
def test_an_answer_without_text_is_paid_for(upstream, slug, pieces, code, words):
    upstream.will_stream([*ANTHROPIC_START, *pieces] if slug == "claude" else pieces)
    error, _ = failure_of(slug)
    assert (error.status, error.code) == (502, code)
    assert words in error.message
    assert recorded() == (502, code, 11, 5)


# Failures in the middle


@pytest.mark.parametrize(
    ("slug", "said", "status", "text"),
    [
        *[
            (slug, event({"error": {"message": "Oh no.", "code": 503}}), 503, "(HTTP 503): Oh no.")
            for slug in PROVIDERS
            if slug != "claude"
        ],
        ("openai", event({"error": {"message": "Oh no.", "type": "server_error"}}, "error"), 502, "Oh no."),
        ("openrouter", chat_chunk({"content": ""}, "error", error={"code": 429, "message": "Oh no."}), 429, "Oh no."),
        ("openrouter", event({"error": "Oh no."}), 502, "Oh no."),
        ("ollama", event({"error": {"message": "sk-or-v1-0123456789", "code": 500}}), 502, "[redacted]"),
        ("google", event({"error": {"code": 400, "message": "Oh no.", "status": "X"}}), 400, "(HTTP 400): Oh no."),
        *[
            ("claude", event({"type": "error", "error": {"type": kind, "message": "Oh no."}}, "error"), status, kind)
            for kind, status in [
                ("overloaded_error", 503),
                ("rate_limit_error", 429),
                ("invalid_request_error", 400),
                ("authentication_error", 502),
                ("api_error", 502),
                ("unheard_of_error", 502),
            ]
        ],
    ],
)
def test_an_error_event(upstream, slug, said, status, text):
    upstream.will_stream([*started(slug), said], then="silent")
    error, before = failure_of(slug)
    assert (error.status, error.code, before) == (status, "api_error", "Hello")
    assert text in error.message
    assert upstream.client_hung_up.wait(1)
    assert recorded() == (status, "api_error", *ESTIMATED)


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("then", ["break off", "end"])
@pytest.mark.parametrize("last", [b"", b'data: {"choices": [{"del'])
def test_a_stream_that_breaks_off(upstream, slug, then, last):
    """Also one whose HTTP is in order, but which never said that it was at its end: without [DONE] and the like."""
    upstream.will_stream([*started(slug), *([last] if last else [])], then=then)
    error, said = failure_of(slug)
    assert (error.status, error.code, said) == (502, "http_request_failed", "Hello")
    assert recorded() == (502, "http_request_failed", *ESTIMATED)


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("words", [False, True])
def test_silence(upstream, settings, slug, words):
    settings.COMPLETION_TIMEOUT = 0.3
    upstream.will_stream(started(slug) if words else [b": wait\n\n"], then="silent")
    error, said = failure_of(slug)
    assert (error.status, error.code) == (504, "http_request_failed")
    assert error.message == f"HTTP request failed: {PROVIDERS[slug].label} did not answer within 0.3 seconds."
    assert upstream.client_hung_up.wait(1)
    assert said == ("Hello" if words else "")
    assert recorded() == (504, "http_request_failed", *(ESTIMATED if words else (None, None)))


@pytest.mark.parametrize("pause", [0, 0.05])
@pytest.mark.parametrize("slug", PROTOCOLS)
def test_an_answer_without_end(upstream, settings, slug, pause):
    settings.STREAM_TIMEOUT = 0.5
    upstream.will_stream(chain(started(slug), repeat(piece_of(slug, " and"))), pause=pause)
    begun = time.monotonic()
    error, said = failure_of(slug)
    assert 0.4 < time.monotonic() - begun < 2
    assert (error.status, error.code) == (504, "http_request_failed")
    assert error.message.endswith("did not end its answer within 0.5 seconds.")
    assert said.startswith("Hello and and")
    assert upstream.client_hung_up.wait(1)
    assert recorded()[:2] == (504, "http_request_failed")


def test_the_time_for_the_whole_answer_may_end_in_silence(upstream, settings):
    settings.STREAM_TIMEOUT = 0.3
    upstream.will_stream(started("openai"), then="silent")
    begun = time.monotonic()
    error, _ = failure_of("openai")
    assert time.monotonic() - begun < 5
    assert (error.status, upstream.client_hung_up.wait(1)) == (504, True)
    assert error.message.endswith("did not end its answer within 0.3 seconds.")


def test_the_time_for_the_whole_answer_may_end_with_the_next_piece_at_hand(upstream, settings):
    settings.STREAM_TIMEOUT = 0.3
    upstream.will_stream([b"".join(CHAT_STREAM)])

    async def calls():
        async with call_of("openai") as call:
            async for _ in call:
                await asyncio.sleep(0.4)

    with pytest.raises(ApiError, match="did not end its answer"):
        on_a_loop(calls)
    assert recorded()[:2] == (504, "http_request_failed")


def test_slow_but_steady_is_no_silence(upstream, settings):
    settings.COMPLETION_TIMEOUT = 0.3
    upstream.will_stream([*started("openai"), *[piece_of("openai", " and")] * 8, b"".join(CHAT_END)], pause=0.1)
    assert text_of(stream("openai")) == "Hello" + 8 * " and"


def test_a_visitor_who_reads_slowly_is_not_the_providers_silence(upstream, settings):
    settings.COMPLETION_TIMEOUT = 0.2
    upstream.will_stream(CHAT_STREAM)

    async def calls():
        texts = []
        async with call_of("openai") as call:
            async for chunk in call:
                texts.append(chunk.text)
                await asyncio.sleep(0.3)
        return texts

    assert on_a_loop(calls) == ["H", "i!", ""]


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_stream_that_is_too_large(upstream, settings, slug, packed):
    settings.MAX_ANSWER_BYTES = 20_000
    content = [*started(slug), *[piece_of(slug, 1000 * "x")] * 50]
    if packed:
        upstream.will_stream([gzip.compress(b"".join(content))], then="silent", content_encoding="gzip")
    else:
        upstream.will_stream(content, then="silent")
    error, _ = failure_of(slug)
    assert (error.status, error.code) == (502, "http_request_failed")
    assert "is larger than 20000 bytes" in error.message
    assert upstream.client_hung_up.wait(1)


# Who leaves


def silent_from_the_start(upstream):
    upstream.will_stall()


def silent_after_the_headers(upstream):
    upstream.will_stream([b": wait\n\n"], then="silent")


def silent_within_an_error(upstream):
    upstream.will_stall(after=b"HTTP/1.1 500 Oh\r\ncontent-length: 500\r\n\r\n{")


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("silent", [silent_from_the_start, silent_after_the_headers, silent_within_an_error])
def test_a_visitor_who_leaves_before_the_first_piece(upstream, slug, silent):
    silent(upstream)

    async def calls():
        async def ask():
            async with call_of(slug) as call:
                async for _ in call:
                    pass

        task = asyncio.ensure_future(ask())
        while not upstream.sent:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        left = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(upstream.client_hung_up.wait, 1)  # before the loop and its clients are closed
        assert time.monotonic() - left < 0.5

    on_a_loop(calls)
    assert recorded() == (499, "", 4, 0)


def cancelled_while_waiting(slug):
    """The visitor's task waits for the next piece."""

    async def calls(begun):
        async with call_of(slug) as call:
            async for _ in call:
                begun.set()

    return calls


def cancelled_while_sending(slug):
    """The visitor's task is sending a piece."""

    async def calls(begun):
        async with call_of(slug) as call:
            async for _ in call:
                begun.set()
                await asyncio.sleep(60)

    return calls


def generator_that_is_closed(slug):
    """As a turn is: itself a generator, closed at its yield."""

    async def turn():
        async with call_of(slug) as call:
            async for chunk in call:
                yield chunk

    async def calls(begun):
        async with aclosing(turn()) as chunks:
            await anext(chunks)
            begun.set()

    return calls


def generator_whose_reader_is_cancelled(slug):
    async def turn():
        async with call_of(slug) as call:
            async for chunk in call:
                yield chunk

    async def calls(begun):
        async for _ in turn():
            begun.set()

    return calls


def loop_that_is_left(slug):
    async def calls(begun):
        async with call_of(slug) as call:
            async for _ in call:
                begun.set()
                break

    return calls


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize(
    ("leaving", "status"),
    [
        (cancelled_while_waiting, 499),
        (cancelled_while_sending, 499),
        (generator_that_is_closed, 499),
        (generator_whose_reader_is_cancelled, 499),
        (loop_that_is_left, 200),
    ],
)
@pytest.mark.parametrize("writing", [False, True])
def test_who_leaves_ends_the_call_at_the_provider(upstream, slug, leaving, status, writing):
    if writing:
        upstream.will_stream(chain(started(slug), repeat(piece_of(slug, "."))), pause=0.02)
    else:
        upstream.will_stream(started(slug), then="silent")

    async def calls():
        begun = asyncio.Event()
        task = asyncio.ensure_future(leaving(slug)(begun))
        await begun.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        left = time.monotonic()
        await asyncio.wait({task})
        assert await asyncio.to_thread(upstream.client_hung_up.wait, 1)
        assert time.monotonic() - left < 0.5

    on_a_loop(calls)
    assert recorded()[:3] == (status, "", ESTIMATED[0])
    assert recorded()[3] >= ESTIMATED[1]


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_closing_the_providers_own_stream_closes_the_connection(upstream, slug):
    upstream.will_stream(started(slug), then="silent")

    async def calls():
        provider = await get_provider(slug, Capability.COMPLETION)
        chunks = provider.stream(HELLO)
        assert await anext(chunk.text async for chunk in chunks if chunk.text) == "Hello"
        await chunks.aclose()
        assert await asyncio.to_thread(upstream.client_hung_up.wait, 1)

    on_a_loop(calls)


def test_many_who_leave(upstream):
    """None keeps a connection, each is recorded once."""
    for _ in range(30):
        upstream.will_stream(started("openai"), then="silent")

    async def calls():
        begun = 0

        async def ask():
            nonlocal begun
            async with call_of("openai") as call:
                async for _ in call:
                    begun += 1

        tasks = [asyncio.ensure_future(ask()) for _ in range(30)]
        while begun < 30:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    on_a_loop(calls)
    assert list(UsageEvent.objects.values_list("status", "input_tokens", "output_tokens")) == 30 * [(499, *ESTIMATED)]


def test_an_error_of_ours_is_recorded_and_ends_the_call(upstream):
    upstream.will_stream(started("openai"), then="silent")

    async def calls():
        async with call_of("openai") as call:
            async for _ in call:
                raise LookupError

    with pytest.raises(LookupError):
        on_a_loop(calls)
    assert upstream.client_hung_up.wait(1)
    assert recorded() == (500, "", *ESTIMATED)


def test_a_call_tells_about_itself(upstream, bot):
    upstream.will_stream(CHAT_STREAM)

    async def calls():
        provider = await get_provider("openai", Capability.COMPLETION)
        async with streamed_call(provider, HELLO, chatbot_id=bot.pk) as call:
            async for _ in call:
                pass
        return call

    call = on_a_loop(calls)
    assert (call.text, call.finish_reason, call.usage) == ("Hi!", "stop", Usage(11, 5, 16))
    assert call.milliseconds >= 0
    assert UsageEvent.objects.get().chatbot == bot


# The estimate


@pytest.mark.parametrize(
    ("characters_in", "characters_out", "counts"),
    [(0, 0, (0, 0, 0)), (1, 0, (1, 0, 1)), (8, 4, (2, 1, 3)), (9, 5, (3, 2, 5)), (4000, 400, (1000, 100, 1100))],
)
def test_an_estimate_is_a_token_for_four_characters(characters_in, characters_out, counts):
    request = CompletionRequest("some-model", [Message("user", characters_in * "x")])
    assert estimate_usage(request, characters_out * "x") == Usage(*counts)
