"""Answers as the many servers really send them, whole and in pieces: what callers and visitors get of them."""

import json
from typing import Any

import pytest

from providers.registry import PROVIDERS
from tests.support.providers.answers import (
    ANTHROPIC_END,
    ANTHROPIC_START,
    CHAT_DONE,
    CHAT_END,
    COMPLETIONS,
    STREAMS,
    chat_chunk,
    event,
    google_chunk,
)
from tests.support.providers.requests import generate
from tests.support.providers.shapes import HELLO, PROTOCOLS
from tests.support.providers.stream_pieces import end_of, piece_of, start_of
from tests.support.providers.streams import failure_of, joined, stream

pytestmark = pytest.mark.django_db


STOP = chat_chunk({}, "stop")


def completion(message: Any = None, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    message = {"content": message} if isinstance(message, str) else message
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], **more}


def outcome(slug: str) -> tuple[str, str]:
    """Return what a visitor reads, and the finish reason."""
    chunks = stream(slug)
    return joined(chunks), chunks[-1].finish_reason or ""


# Streams and whole answers, whichever was asked for


@pytest.mark.parametrize("slug", PROVIDERS)
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
def test_a_stream_may_be_answered_by_a_whole_answer(upstream, slug, content_type):
    upstream.will_answer(COMPLETIONS[slug], headers={"Content-Type": content_type})
    *_, last = chunks = stream(slug)
    assert (joined(chunks), last.finish_reason, last.usage.total_tokens) == ("Hi!", "stop", 16)


@pytest.mark.parametrize("slug", PROVIDERS)
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/html"])
def test_a_whole_answer_may_come_as_a_stream(api, upstream, slug, content_type):
    upstream.will_stream(STREAMS[slug], content_type=content_type)
    answer = generate(api, slug).json()
    assert (answer["content"], answer["usage"]["total_tokens"]) == ("Hi!", 16)


@pytest.mark.parametrize(
    ("slug", "body"),
    [
        ("openai", b"\n  \n" + json.dumps(completion("Hello")).encode()),  # blanks while the model thinks
        ("openai", b"\xef\xbb\xbf" + json.dumps(completion("Hello")).encode()),
        ("openai", json.dumps(completion("Hello")).encode() + b"data: [DONE]\n\n"),
        ("openai", json.dumps(completion("Hello")).encode() + b"\n\n\ndata: [DONE]"),
        ("openai", HELLO[6:] + STOP[6:]),  # a JSON value a line
        ("openai", b"data: " + json.dumps(completion("Hello")).encode()),
        ("openai", b'{"choices": [{"text": "Hello", "finish_reason": "stop"}]}'),
        ("google", b"[" + google_chunk("Hel")[6:] + b"," + google_chunk("lo", finishReason="STOP")[6:] + b"]"),
    ],
)
def test_a_whole_answer_may_be_wrapped(api, upstream, slug, body):
    for _ in range(2):
        upstream.will_answer(body)
    assert generate(api, slug).json()["content"] == "Hello"
    assert joined(stream(slug)) == "Hello"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: \n\n", b"data: ping\n\n", HELLO, STOP, CHAT_DONE],
        [b"data: null\n\n", b"data: 0\n\n", b'data: ""\n\n', b"data: {}\n\n", HELLO, STOP, CHAT_DONE],
        [b"event: ping\ndata: {}\n\n", b"event: heartbeat\n\n", HELLO, STOP, CHAT_DONE],
        [event({"message": "Waiting in the queue."}), event({"status": "queued"}), HELLO, STOP, CHAT_DONE],
        [event({"choices": []}), event({"choices": None}), HELLO, event({"choices": [{"index": 0}]}), STOP, CHAT_DONE],
        [chat_chunk({"content": "Hello"}, error=None), chat_chunk({}, "stop", error={}), CHAT_DONE],
        [chat_chunk({"content": "Hello"}, error={"code": None, "message": ""}, errors=[]), STOP, CHAT_DONE],
        [HELLO, STOP, b"data:   [DONE]  \n\n"],
        [HELLO, STOP, b"data: [DONE]"],  # no blank line
        [HELLO, chat_chunk({}, "stop").strip()],
        [HELLO.strip() + b"\n" + STOP.strip() + b"\ndata: [DONE]\n\n"],  # lines instead of events
        [HELLO.replace(b"\n\n", b"\r\r"), STOP, CHAT_DONE],
        [chat_chunk({"content": "Hello"}, ""), chat_chunk({"content": ""}, "stop"), CHAT_DONE],  # Ollama, once
        [event(completion("Hello", finish_reason=None)), STOP, CHAT_DONE],
        [HELLO, event(completion("Hello")), CHAT_DONE],  # the whole message once more at the end
        [event(completion("Hel", None)), event(completion("Hello", None)), STOP, CHAT_DONE],  # all of it each time
        [event({"choices": [{"delta": None, "text": "Hello", "finish_reason": "stop"}]}), CHAT_DONE],
        [HELLO, event({"choices": [{"index": 1, "delta": {"content": "Another"}}]}), STOP, CHAT_DONE],
        [chat_chunk({"content": "Hel"}, "null"), chat_chunk({"content": "lo"}, "null"), STOP, CHAT_DONE],  # DashScope
        [HELLO, chat_chunk({}, {"type": "stop", "matched": 2}), CHAT_DONE],  # SGLang
        [HELLO, chat_chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "?"}]}]}), STOP],
    ],
)
def test_a_stream_may_hold_more_than_an_answer(upstream, pieces):
    upstream.will_stream(pieces)
    assert outcome("openai") == ("Hello", "stop")


@pytest.mark.parametrize(
    "pieces",
    [
        [event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hello"}})],
        [
            event({"type": "content_block_start", "content_block": {"type": "thinking", "thinking": "Hm"}}),
            event({"type": "content_block_delta", "delta": {"type": "citations_delta", "citation": {}}}),
            event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}}),
        ],
        [event({}), event({"type": "ping"}), event(b"null"), *start_of("claude")[-1:]],
    ],
)
def test_anthropics_text_is_found_wherever_it_is(upstream, pieces):
    upstream.will_stream([*ANTHROPIC_START, *pieces, *ANTHROPIC_END])
    assert outcome("claude") == ("Hello", "stop")


@pytest.mark.parametrize(
    "pieces",
    [
        [google_chunk("Hel", finishReason="STOP"), google_chunk("lo", finishReason="STOP")],
        [google_chunk("", finishReason="STOP"), google_chunk("Hello"), google_chunk("", finishReason="STOP")],
        [google_chunk("Hello"), event({"candidates": [{"finishReason": "STOP"}]})],
    ],
)
def test_google_may_say_more_than_once_that_it_stops(upstream, pieces):
    upstream.will_stream(pieces)
    assert outcome("google") == ("Hello", "stop")


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_a_connection_may_break_after_the_finish_reason(upstream, slug):
    pieces = [piece for piece in end_of(slug) if b"[DONE]" not in piece and b"message_stop" not in piece]
    upstream.will_stream([*start_of(slug), *pieces], then="break off")
    assert outcome(slug) == ("Hello", "stop")


# Thinking


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("<think>\nThey want X.\n</think>\n\nHello", "Hello"),
        ("<think></think>Hello", "Hello"),
        ("\n <THINKING>Hm</thinking> Hello", "Hello"),
        ("<think>a</think><think>b</think>\nHello", "Hello"),
        ("<thought>a < b </thin </thought>Hello", "Hello"),
        ("<reasoning>Hm</reasoning>Hello", "Hello"),
        ("[THINK]Hm[/THINK]Hello", "Hello"),
        ("◁think▷Hm◁/think▷Hello", "Hello"),
        ("<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Hello", "Hello"),
        ("</think>\n\nHello", "Hello"),
        ("Use <think> and </think>.", "Use <think> and </think>."),  # only at the beginning
        ("<thinker>Hello</thinker>", "<thinker>Hello</thinker>"),
        ("<th", "<th"),
        ("< think>Hello", "< think>Hello"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_thinking_in_the_text_is_hidden(upstream, said, text, size):
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    upstream.will_stream([*(piece_of("ollama", piece) for piece in pieces), *CHAT_END])
    assert joined(stream("ollama")) == text


UNMARKED = "They want X.\nI say hello.\n</think>\n\nHello"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (UNMARKED, "Hello"),
        ("Write\n<think>\nHm\n</think>\nfirst.", "Write\n<think>\nHm\n</think>\nfirst."),
        ("It ends with </think> alone.", "It ends with </think> alone."),
        ("It ends so:\n</think>\n", "It ends so:\n</think>"),
    ],
)
def test_thinking_may_lack_its_beginning(api, upstream, said, text):
    upstream.will_answer(completion(said))
    assert generate(api, "ollama").json()["content"] == text


@pytest.mark.parametrize("slug", PROTOCOLS)
def test_thinking_is_hidden_in_each_protocol(api, upstream, slug):
    said = json.dumps(COMPLETIONS[slug]).replace("Hi!", "<think>My instructions say no.</think>Hello")
    upstream.will_answer(said.encode())
    assert generate(api, slug).json()["content"] == "Hello"


@pytest.mark.parametrize(("finish_reason", "words"), [("stop", "without text"), ("length", "token limit")])
def test_nothing_but_thinking_is_no_answer(api, upstream, finish_reason, words):
    upstream.will_answer(completion("<think>So long that", finish_reason))
    upstream.will_stream([chat_chunk({"content": "<think>So long that"}), chat_chunk({}, finish_reason), CHAT_DONE])
    assert words in generate(api, "ollama").json()["message"]
    error, said = failure_of("ollama")
    assert (words in error.message, said) == (True, "")


@pytest.mark.parametrize(
    ("slug", "sign"),
    [
        ("openai", chat_chunk({"reasoning_content": "Hm."})),
        ("openai", chat_chunk({"content": "", "reasoning": "Hm."})),
        ("openai", chat_chunk({"content": "<think>"})),
        ("claude", event({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm."}})),
        ("google", event({"candidates": [{"content": {"parts": [{"text": "Hm.", "thought": True}]}}]})),
    ],
)
def test_who_thinks_is_not_silent(upstream, settings, slug, sign):
    settings.COMPLETION_TIMEOUT = 0.8
    closing = [piece_of(slug, "</think>")] if b"<think>" in sign else []
    begin = ANTHROPIC_START if slug == "claude" else []
    upstream.will_stream([*begin, *8 * [sign], *closing, *start_of(slug)[-1:], *end_of(slug)], pause=0.15)
    assert joined(stream(slug)) == "Hello"


# Ends


def test_a_stream_that_says_null_has_not_ended(upstream):
    upstream.will_stream([chat_chunk({"content": "Hel"}, "null")])
    error, said = failure_of("openai")
    assert (error.code, said) == ("http_request_failed", "Hel")


def test_the_first_byte_of_a_stream_may_come_alone(upstream):
    said = b"".join([HELLO, STOP, CHAT_DONE])
    upstream.will_stream([said[:1], said[1:]], pause=0.05, content_type="application/json")
    assert outcome("openai") == ("Hello", "stop")


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"),
        ("END_TURN", "stop"),
        ("something_new", "stop"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_context_window_exceeded", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("OTHER", "content_filter"),
    ],
)
def test_a_reason_to_end(upstream, slug, reason, finish_reason):
    endings = {
        "openai": [chat_chunk({}, reason), CHAT_DONE],
        "claude": [event({"type": "message_delta", "delta": {"stop_reason": reason}}), ANTHROPIC_END[-1]],
        "google": [google_chunk("", finishReason=reason)],
    }
    upstream.will_stream([*start_of(slug), *endings[slug]])
    assert outcome(slug) == ("Hello", finish_reason)


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "network_error"])
def test_half_an_answer_is_an_error(api, upstream, reason):
    upstream.will_answer(completion("Half", reason))
    upstream.will_stream([chat_chunk({"content": "Half"}), chat_chunk({}, reason), CHAT_DONE])
    refused = generate(api, "openrouter")
    assert (refused.status_code, refused.json()["code"]) == (502, "api_error")
    assert reason in refused.json()["message"]
    error, said = failure_of("openrouter")
    assert (error.status, said) == (502, "Half")
