"""Streamed completions: the request to each provider, the chunks, failures, cancellation and the usage record."""

import asyncio
import gzip
import time
from contextlib import aclosing
from itertools import chain, repeat

import pytest

from logs.models import UsageEvent
from providers.base import Capability, CompletionChunk, CompletionRequest, Message, Sampling, Usage
from providers.calls import streamed_call
from providers.registry import PROVIDERS, get_provider
from providers.token_estimate import estimate_usage
from puffer.api.errors import ApiError
from tests.support.providers.answers import (
    ANTHROPIC_END,
    ANTHROPIC_START,
    CHAT_DONE,
    CHAT_END,
    CHAT_STREAM,
    COMPLETIONS,
    STREAMS,
    chat_chunk,
    environment,
    event,
    google_chunk,
)
from tests.support.providers.failures import ERRORS, NO_ANSWERS, NO_TEXT_CODES
from tests.support.providers.requests import SENT
from tests.support.providers.streams import (
    HELLO,
    PROTOCOLS,
    end_of,
    failure_of,
    joined,
    open_call,
    piece_of,
    run_on_loop,
    start_of,
    stream,
)
from tests.support.rows import crossed
from tests.support.upstream import closed_port

pytestmark = pytest.mark.django_db


def recorded_usage() -> tuple[int, str, int | None, int | None]:
    record = UsageEvent.objects.get()
    assert record.operation == "completion"
    return record.status, record.error_code, record.input_tokens, record.output_tokens


# The estimated usage of HELLO answered with "Hello": 16 characters in, 5 out
ESTIMATED = (4, 2)


# Chunks


def test_every_provider_is_in_every_table():
    assert STREAMS.keys() == PROVIDERS.keys()


@pytest.mark.parametrize("slug", PROVIDERS)
def test_all_providers_give_the_same_chunks(upstream, slug):
    upstream.will_stream(STREAMS[slug])
    *pieces, last = stream(slug)
    assert pieces == [CompletionChunk("H"), CompletionChunk("i!")]
    assert (last.text, last.finish_reason) == ("", "stop")
    assert (last.usage.input_tokens, last.usage.output_tokens, last.usage.total_tokens) == (11, 5, 16)
    assert recorded_usage() == (200, "", 11, 5)


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_chunks_arrive_as_they_are_sent(upstream, slug):
    upstream.will_stream([*start_of(slug), piece_of(slug, " there"), *end_of(slug)], pause=0.2)

    async def calls():
        async with open_call(slug) as call:
            return [(chunk.text, time.monotonic()) async for chunk in call]

    (first, first_at), (second, second_at), (_, last_at) = run_on_loop(calls)
    assert (first, second) == ("Hello", " there")
    assert second_at - first_at > 0.15
    assert last_at - second_at > 0.15


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("size", [1, 7])
def test_streams_can_be_split_at_any_byte(upstream, slug, size):
    """Chunk boundaries may lie within a character or a line ending."""
    text = "Grüße 你好 🦔\n“ok”"
    content = b"".join([*start_of(slug), piece_of(slug, text).replace(b"\\u4f60", "你".encode()), *end_of(slug)])
    upstream.will_stream(content[at : at + size] for at in range(0, len(content), size))
    assert joined(stream(slug)) == f"Hello{text}"


@pytest.mark.parametrize(
    "raw",
    [
        b"data:{JSON}\n\n",  # the space is optional
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
def test_all_forms_of_event_streams_are_parsed(upstream, raw):
    upstream.will_stream([raw.replace(b"{JSON}", b'{"choices": [{"delta": {"content": "Hello"}}]}'), *CHAT_END])
    assert joined(stream("openai")) == "Hello"


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_an_event_of_64_kilobytes(upstream, slug):
    text = "0123456789abcdef" * 4096
    upstream.will_stream([*start_of(slug), piece_of(slug, text), *end_of(slug)])
    assert joined(stream(slug)) == f"Hello{text}"


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        (["\ud83e", "\udd94"], ["🦔"]),  # a surrogate pair in two pieces is one character
        (["a\ud83e", "\udd94b"], ["a", "🦔b"]),
        (["a", "\udd94", "b"], ["a", "?", "b"]),
        (["a\ud83e", "b"], ["a", "?b"]),
        (["a", "\ud83e"], ["a"]),  # a lone surrogate at the end
        (["\n\n", " Hel", "lo ", "you"], ["Hel", "lo ", "you"]),  # leading white space is removed, as in complete()
        (["a", "\x00", "b\x00"], ["a", "b"]),  # databases reject NUL
        (["a\u2028b\x85c"], ["a\u2028b\x85c"]),  # not line endings in an event stream
    ],
)
@pytest.mark.parametrize("slug", PROTOCOLS)
def test_texts_are_cleaned_for_storage(upstream, slug, pieces, texts):
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
                *start_of("claude"),
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
def test_other_shapes_of_chunks_are_parsed(upstream, slug, pieces):
    upstream.will_stream(pieces)
    chunks = stream(slug)
    assert (joined(chunks), chunks[-1].finish_reason) == ("Hello", "length")


def test_done_ends_an_answer_without_a_finish_reason(upstream):
    upstream.will_stream([chat_chunk({"content": "Hello"}), CHAT_DONE])
    assert stream("ollama") == [CompletionChunk("Hello"), CompletionChunk(finish_reason="stop")]
    assert recorded_usage() == (200, "", None, None)  # unknown usage, as in complete()


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_a_compressed_stream_is_decompressed(upstream, slug):
    upstream.will_stream([gzip.compress(b"".join(STREAMS[slug]))], content_encoding="gzip")
    assert joined(stream(slug)) == "Hi!"


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_the_connection_is_reused(upstream, slug):
    async def calls():
        for _ in range(3):
            upstream.will_stream(STREAMS[slug])
            async with open_call(slug) as call:
                assert [chunk.text async for chunk in call] == ["H", "i!", ""]

    run_on_loop(calls)
    assert upstream.connections == 1


@pytest.mark.parametrize("slug", ["openai", "claude"])
def test_a_complete_answer_does_not_wait_for_the_end_of_the_connection(upstream, slug):
    upstream.will_stream(STREAMS[slug], then="silent")
    assert joined(stream(slug)) == "Hi!"
    assert upstream.client_hung_up.wait(1)


# Requests


@pytest.mark.parametrize("slug", PROVIDERS)
def test_the_request_to_each_provider(upstream, slug):
    """The request equals the one without streaming, plus the options for streaming."""
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
def test_invalid_requests_are_not_sent(upstream, slug, request_):
    error, _ = failure_of(slug, request_)
    assert (error.status, error.code) == (400, "rest_aipkit_invalid_param")
    assert upstream.sent == []


# Failures before the first chunk, which equal those without streaming


@pytest.mark.parametrize(
    ("slug", "upstream_status", "status", "retry_after"),
    crossed(PROVIDERS, PROTOCOLS, [
        (429, 429, "30"), (400, 400, None), (401, 502, None), (500, 502, None), (503, 503, "30"), (529, 503, "30"),
    ]),
)  # fmt: skip
def test_an_error_status_before_the_stream(upstream, slug, upstream_status, status, retry_after):
    body, text = ERRORS[slug]
    upstream.will_answer(body, upstream_status, {"Retry-After": "30"})
    error, text_before = failure_of(slug)
    assert (error.status, error.code, text_before) == (status, "api_error", "")
    assert error.message == f"{PROVIDERS[slug].label} API Error (HTTP {upstream_status}): {text}"
    assert error.headers.get("Retry-After") == retry_after
    assert len(upstream.sent) == 1
    assert recorded_usage() == (status, "api_error", None, None)


@pytest.mark.parametrize(("slug", "fault", "words"), crossed(PROVIDERS, PROTOCOLS, NO_ANSWERS))
def test_a_call_without_an_answer(upstream, settings, slug, fault, words):
    fault(upstream, settings, COMPLETIONS[slug])
    error, _ = failure_of(slug)
    expected = (502, "http_request_failed")
    if fault.__name__ in (
        "break_off",
        "break_off_within_a_chunk",
    ):  # no complete event arrived, so another message may be used
        words = ""
    assert (error.status, error.code) == expected
    assert words in error.message
    assert recorded_usage() == (*expected, None, None)


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_a_refused_connection_is_an_error(settings, slug):
    with closed_port() as url:
        settings.PROVIDER_ENVIRONMENT = environment(url)
        error, _ = failure_of(slug)
    assert (error.status, error.code) == (502, "http_request_failed")
    assert recorded_usage() == (502, "http_request_failed", None, None)


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
def test_answers_that_are_not_streams_are_errors(upstream, slug, body, content_type, code):
    upstream.will_answer(body, headers={"Content-Type": content_type})
    error, text_before = failure_of(slug)
    assert (error.status, text_before) == (502, "")
    if code != "any":  # each protocol reads another of the three fields
        assert error.code == (code or NO_TEXT_CODES[slug])
    assert recorded_usage() == (502, error.code, None, None)


@pytest.mark.parametrize("slug", PROVIDERS)
def test_an_error_with_status_200_is_recognized(upstream, slug):
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
def test_the_usage_of_an_answer_without_text_is_recorded(upstream, slug, pieces, code, words):
    upstream.will_stream([*ANTHROPIC_START, *pieces] if slug == "claude" else pieces)
    error, _ = failure_of(slug)
    assert (error.status, error.code) == (502, code)
    assert words in error.message
    assert recorded_usage() == (502, code, 11, 5)


# Failures after the first chunk


@pytest.mark.parametrize(
    ("slug", "failure", "status", "text"),
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
def test_an_error_event_ends_the_stream(upstream, slug, failure, status, text):
    upstream.will_stream([*start_of(slug), failure], then="silent")
    error, before = failure_of(slug)
    assert (error.status, error.code, before) == (status, "api_error", "Hello")
    assert text in error.message
    assert upstream.client_hung_up.wait(1)
    assert recorded_usage() == (status, "api_error", *ESTIMATED)


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("then", ["break off", "end"])
@pytest.mark.parametrize("last", [b"", b'data: {"choices": [{"del'])
def test_an_incomplete_stream_is_an_error(upstream, slug, then, last):
    """A stream without its end marker, such as [DONE], is incomplete even if the HTTP response ended correctly."""
    upstream.will_stream([*start_of(slug), *([last] if last else [])], then=then)
    error, text_before = failure_of(slug)
    assert (error.status, error.code, text_before) == (502, "http_request_failed", "Hello")
    assert recorded_usage() == (502, "http_request_failed", *ESTIMATED)


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("words", [False, True])
def test_a_silent_stream_times_out(upstream, settings, slug, words):
    settings.COMPLETION_TIMEOUT = 0.3
    upstream.will_stream(start_of(slug) if words else [b": wait\n\n"], then="silent")
    error, text_before = failure_of(slug)
    assert (error.status, error.code) == (504, "http_request_failed")
    assert error.message == f"HTTP request failed: {PROVIDERS[slug].label} did not answer within 0.3 seconds."
    assert upstream.client_hung_up.wait(1)
    assert text_before == ("Hello" if words else "")
    assert recorded_usage() == (504, "http_request_failed", *(ESTIMATED if words else (None, None)))


@pytest.mark.parametrize("pause", [0, 0.05])
@pytest.mark.parametrize("slug", PROTOCOLS)
def test_an_endless_answer_times_out(upstream, settings, slug, pause):
    settings.STREAM_TIMEOUT = 0.5
    upstream.will_stream(chain(start_of(slug), repeat(piece_of(slug, " and"))), pause=pause)
    started_at = time.monotonic()
    error, text_before = failure_of(slug)
    assert 0.4 < time.monotonic() - started_at < 2
    assert (error.status, error.code) == (504, "http_request_failed")
    assert error.message.endswith("did not finish its answer within 0.5 seconds.")
    assert text_before.startswith("Hello and and")
    assert upstream.client_hung_up.wait(1)
    assert recorded_usage()[:2] == (504, "http_request_failed")


def test_the_stream_timeout_applies_during_silence(upstream, settings):
    settings.STREAM_TIMEOUT = 0.3
    upstream.will_stream(start_of("openai"), then="silent")
    started_at = time.monotonic()
    error, _ = failure_of("openai")
    assert time.monotonic() - started_at < 5
    assert (error.status, upstream.client_hung_up.wait(1)) == (504, True)
    assert error.message.endswith("did not finish its answer within 0.3 seconds.")


def test_the_stream_timeout_applies_to_chunks_already_received(upstream, settings):
    settings.STREAM_TIMEOUT = 0.3
    upstream.will_stream([b"".join(CHAT_STREAM)])

    async def calls():
        async with open_call("openai") as call:
            async for _ in call:
                await asyncio.sleep(0.4)

    with pytest.raises(ApiError, match="did not finish its answer"):
        run_on_loop(calls)
    assert recorded_usage()[:2] == (504, "http_request_failed")


def test_a_slow_but_steady_stream_does_not_time_out(upstream, settings):
    settings.COMPLETION_TIMEOUT = 0.3
    upstream.will_stream([*start_of("openai"), *[piece_of("openai", " and")] * 8, b"".join(CHAT_END)], pause=0.1)
    assert joined(stream("openai")) == "Hello" + 8 * " and"


def test_a_slow_reader_does_not_count_as_a_silent_provider(upstream, settings):
    settings.COMPLETION_TIMEOUT = 0.2
    upstream.will_stream(CHAT_STREAM)

    async def calls():
        texts = []
        async with open_call("openai") as call:
            async for chunk in call:
                texts.append(chunk.text)
                await asyncio.sleep(0.3)
        return texts

    assert run_on_loop(calls) == ["H", "i!", ""]


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_stream_that_is_too_large_is_ended(upstream, settings, slug, compressed):
    settings.MAX_ANSWER_BYTES = 20_000
    content = [*start_of(slug), *[piece_of(slug, 1000 * "x")] * 50]
    if compressed:
        upstream.will_stream([gzip.compress(b"".join(content))], then="silent", content_encoding="gzip")
    else:
        upstream.will_stream(content, then="silent")
    error, _ = failure_of(slug)
    assert (error.status, error.code) == (502, "http_request_failed")
    assert "is larger than 20000 bytes" in error.message
    assert upstream.client_hung_up.wait(1)


# Cancellation


def silent_from_the_start(upstream):
    upstream.will_stall()


def silent_after_the_headers(upstream):
    upstream.will_stream([b": wait\n\n"], then="silent")


def silent_within_an_error(upstream):
    upstream.will_stall(after=b"HTTP/1.1 500 Oh\r\ncontent-length: 500\r\n\r\n{")


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize("fall_silent", [silent_from_the_start, silent_after_the_headers, silent_within_an_error])
def test_canceling_before_the_first_chunk_closes_the_connection(upstream, slug, fall_silent):
    fall_silent(upstream)

    async def calls():
        async def ask():
            async with open_call(slug) as call:
                async for _ in call:
                    pass

        task = asyncio.ensure_future(ask())
        while not upstream.sent:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        canceled_at = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(
            upstream.client_hung_up.wait, 1
        )  # checked before the loop and its clients are closed
        assert time.monotonic() - canceled_at < 0.5

    run_on_loop(calls)
    assert recorded_usage() == (499, "", 4, 0)


def canceled_while_waiting(slug):
    """Return a call that is canceled while it waits for the next chunk."""

    async def calls(started_at):
        async with open_call(slug) as call:
            async for _ in call:
                started_at.set()

    return calls


def canceled_while_sending(slug):
    """Return a call that is canceled while it passes on a chunk."""

    async def calls(started_at):
        async with open_call(slug) as call:
            async for _ in call:
                started_at.set()
                await asyncio.sleep(60)

    return calls


def generator_that_is_closed(slug):
    """Return a call within a generator that is closed at its yield, as a turn is."""

    async def turn():
        async with open_call(slug) as call:
            async for chunk in call:
                yield chunk

    async def calls(started_at):
        async with aclosing(turn()) as chunks:
            await anext(chunks)
            started_at.set()

    return calls


def generator_whose_reader_is_canceled(slug):
    async def turn():
        async with open_call(slug) as call:
            async for chunk in call:
                yield chunk

    async def calls(started_at):
        async for _ in turn():
            started_at.set()

    return calls


def loop_with_a_break(slug):
    async def calls(started_at):
        async with open_call(slug) as call:
            async for _ in call:
                started_at.set()
                break

    return calls


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize(
    ("abandon", "status"),
    [
        (canceled_while_waiting, 499),
        (canceled_while_sending, 499),
        (generator_that_is_closed, 499),
        (generator_whose_reader_is_canceled, 499),
        (loop_with_a_break, 200),
    ],
)
@pytest.mark.parametrize("writing", [False, True])
def test_abandoning_a_stream_closes_the_providers_connection(upstream, slug, abandon, status, writing):
    if writing:
        upstream.will_stream(chain(start_of(slug), repeat(piece_of(slug, "."))), pause=0.02)
    else:
        upstream.will_stream(start_of(slug), then="silent")

    async def calls():
        started_at = asyncio.Event()
        task = asyncio.ensure_future(abandon(slug)(started_at))
        await started_at.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        canceled_at = time.monotonic()
        await asyncio.wait({task})
        assert await asyncio.to_thread(upstream.client_hung_up.wait, 1)
        assert time.monotonic() - canceled_at < 0.5

    run_on_loop(calls)
    assert recorded_usage()[:3] == (status, "", ESTIMATED[0])
    assert recorded_usage()[3] >= ESTIMATED[1]


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_closing_the_providers_own_stream_closes_the_connection(upstream, slug):
    upstream.will_stream(start_of(slug), then="silent")

    async def calls():
        provider = await get_provider(slug, Capability.COMPLETION)
        chunks = provider.stream(HELLO)
        assert await anext(chunk.text async for chunk in chunks if chunk.text) == "Hello"
        await chunks.aclose()
        assert await asyncio.to_thread(upstream.client_hung_up.wait, 1)

    run_on_loop(calls)


def test_many_canceled_calls(upstream):
    """No canceled call keeps its connection open, and each is recorded once."""
    for _ in range(30):
        upstream.will_stream(start_of("openai"), then="silent")

    async def calls():
        started_at = 0

        async def ask():
            nonlocal started_at
            async with open_call("openai") as call:
                async for _ in call:
                    started_at += 1

        tasks = [asyncio.ensure_future(ask()) for _ in range(30)]
        while started_at < 30:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run_on_loop(calls)
    assert list(UsageEvent.objects.values_list("status", "input_tokens", "output_tokens")) == 30 * [(499, *ESTIMATED)]


def test_an_error_in_our_code_is_recorded_and_closes_the_connection(upstream):
    upstream.will_stream(start_of("openai"), then="silent")

    async def calls():
        async with open_call("openai") as call:
            async for _ in call:
                raise LookupError

    with pytest.raises(LookupError):
        run_on_loop(calls)
    assert upstream.client_hung_up.wait(1)
    assert recorded_usage() == (500, "", *ESTIMATED)


def test_a_call_exposes_its_result(upstream, bot):
    upstream.will_stream(CHAT_STREAM)

    async def calls():
        provider = await get_provider("openai", Capability.COMPLETION)
        async with streamed_call(provider, HELLO, chatbot_id=bot.pk) as call:
            async for _ in call:
                pass
        return call

    call = run_on_loop(calls)
    assert (call.text, call.finish_reason, call.usage) == ("Hi!", "stop", Usage(11, 5, 16))
    assert call.milliseconds >= 0
    assert UsageEvent.objects.get().chatbot == bot


# The estimate


@pytest.mark.parametrize(
    ("characters_in", "characters_out", "counts"),
    [(0, 0, (0, 0, 0)), (1, 0, (1, 0, 1)), (8, 4, (2, 1, 3)), (9, 5, (3, 2, 5)), (4000, 400, (1000, 100, 1100))],
)
def test_an_estimate_counts_one_token_per_four_characters(characters_in, characters_out, counts):
    request = CompletionRequest("some-model", [Message("user", characters_in * "x")])
    assert estimate_usage(request, characters_out * "x") == Usage(*counts)
