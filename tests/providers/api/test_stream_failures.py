"""Streams that fail before or after their first chunk."""

import asyncio
import gzip
import time
from itertools import chain, repeat

import pytest

from providers.registry import PROVIDERS
from puffer.api.errors import ApiError
from tests.support.providers.answers import (
    ANTHROPIC_END,
    ANTHROPIC_START,
    CHAT_END,
    CHAT_STREAM,
    COMPLETIONS,
    chat_chunk,
    environment,
    event,
)
from tests.support.providers.failures import ERRORS, NO_ANSWERS, NO_TEXT_CODES
from tests.support.providers.recorded_usage import ESTIMATED, recorded_usage
from tests.support.providers.stream_pieces import end_of, piece_of, start_of
from tests.support.providers.streams import PROTOCOLS, failure_of, joined, open_call, run_on_loop, stream
from tests.support.rows import crossed
from tests.support.upstream import closed_port

pytestmark = pytest.mark.django_db


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
        (b"Not an event.\n\n", "text/plain", "api_error"),
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
