"""Streamed completions: the request to each provider, the chunks, failures, cancellation and the usage record."""

import gzip
import time

import pytest

from providers.base import CompletionChunk, CompletionRequest, Message, Sampling
from providers.registry import PROVIDERS
from tests.support.providers.answers import (
    ANTHROPIC_END,
    CHAT_DONE,
    CHAT_END,
    STREAMS,
    chat_chunk,
    event,
    google_chunk,
)
from tests.support.providers.recorded_usage import recorded_usage
from tests.support.providers.requests import SENT
from tests.support.providers.stream_pieces import end_of, piece_of, start_of
from tests.support.providers.streams import HELLO, PROTOCOLS, failure_of, joined, open_call, run_on_loop, stream

pytestmark = pytest.mark.django_db


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
