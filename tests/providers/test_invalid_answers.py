"""Missing and invalid answers of every provider."""

import gzip
import json
import tracemalloc

import pytest

from providers.registry import PROVIDERS
from tests.support.providers.answers import environment
from tests.support.providers.failing_calls import ADAPTERS, CALLS, COMPLETION, EMBEDDING, GOOD, IMAGE, PROTOCOLS
from tests.support.providers.failures import NO_ANSWERS, NO_TEXT_CODES
from tests.support.rows import crossed
from tests.support.upstream import closed_port, full_backlog


@pytest.mark.parametrize(("slug", "capability", "fault", "words"), crossed(CALLS, ADAPTERS, NO_ANSWERS))
def test_a_call_without_an_answer(failure, upstream, settings, slug, capability, fault, words):
    fault(upstream, settings, GOOD[capability][slug])
    message = failure(slug, capability, 502, kind="transport")
    assert message.startswith(f"HTTP request failed: {PROVIDERS[slug].label}")
    assert words in message
    assert len(upstream.sent) == 1


def test_a_gzip_bomb_does_not_fill_the_memory(call, upstream, settings):
    settings.MAX_ANSWER_BYTES = 2000
    upstream.will_answer(gzip.compress(50_000_000 * b" "), headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        assert call("openai", COMPLETION).status_code == 502
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("slug", "capability"), ADAPTERS)
def test_compressed_answers_are_accepted(call, upstream, slug, capability):
    packed = gzip.compress(json.dumps(GOOD[capability][slug]).encode())
    upstream.will_answer(packed, headers={"Content-Encoding": "gzip"})
    assert call(slug, capability).status_code == 200
    assert upstream.sent[0].headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(("slug", "capability"), ADAPTERS)
def test_an_answer_of_the_maximum_size_is_accepted(call, upstream, settings, slug, capability):
    body = json.dumps(GOOD[capability][slug]).encode()
    settings.MAX_ANSWER_BYTES = len(body)
    upstream.will_answer(body)
    assert call(slug, capability).status_code == 200


@pytest.mark.parametrize(("slug", "capability"), ADAPTERS)
def test_a_stalled_provider_times_out(failure, upstream, settings, slug, capability):
    settings.COMPLETION_TIMEOUT = settings.IMAGE_TIMEOUT = 0.25
    upstream.will_stall()
    message = failure(slug, capability, 504, kind="transport")
    assert message == f"HTTP request failed: {PROVIDERS[slug].label} did not answer within 0.25 seconds."
    assert upstream.client_hung_up.wait(5)  # so that the provider can stop
    assert len(upstream.sent) == 1


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
def test_a_provider_that_stalls_within_its_answer_times_out(failure, upstream, settings, slug, capability):
    settings.COMPLETION_TIMEOUT = settings.IMAGE_TIMEOUT = 0.25
    upstream.will_stall(after=b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
    failure(slug, capability, 504, kind="transport")
    assert upstream.client_hung_up.wait(5)


def test_images_have_a_separate_timeout(call, upstream, settings):
    settings.COMPLETION_TIMEOUT, settings.IMAGE_TIMEOUT = 30, 0.1
    upstream.will_stall()
    assert "within 0.1 seconds" in call("openai", IMAGE).json()["message"]
    settings.COMPLETION_TIMEOUT, settings.IMAGE_TIMEOUT = 0.1, 30
    upstream.will_stall()
    assert "within 0.1 seconds" in call("openai", EMBEDDING).json()["message"]


@pytest.mark.parametrize(("slug", "capability"), CALLS)
def test_a_refused_connection_is_an_error(failure, settings, slug, capability):
    with closed_port() as url:
        settings.PROVIDER_ENVIRONMENT = environment(url)
        message = failure(slug, capability, 502, kind="transport")
    assert message.startswith(f"HTTP request failed: {PROVIDERS[slug].label} cannot be reached")


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
def test_connecting_times_out(failure, settings, slug, capability):
    settings.CONNECT_TIMEOUT = 0.1
    with full_backlog() as url:
        settings.PROVIDER_ENVIRONMENT = environment(url)
        failure(slug, capability, 504, kind="transport")


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
def test_an_unknown_host_is_an_error(failure, settings, slug, capability):
    settings.PROVIDER_ENVIRONMENT = environment("https://nowhere.invalid")
    failure(slug, capability, 502, kind="transport")


@pytest.mark.parametrize(
    ("slug", "capability", "body"),
    crossed(CALLS, ADAPTERS, [
        b"<!doctype html><title>Log in</title>",
        b'{"choices": [{"mess',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"{'single': 'quotes'}",
    ]),
)  # fmt: skip
def test_an_answer_that_is_not_json_is_an_error(failure, upstream, slug, capability, body):
    upstream.will_answer(body)
    message = failure(slug, capability, 502, kind="unreadable")
    assert message == f"{PROVIDERS[slug].label} sent an answer that cannot be read."


@pytest.mark.parametrize(("slug", "capability"), CALLS)
def test_an_empty_answer_is_an_error(failure, upstream, slug, capability):
    upstream.will_answer(b"")
    is_read_by_sdk = slug == "google" and capability is not COMPLETION
    kind = "empty" if is_read_by_sdk else "unreadable"  # Google's SDK takes nothing for {}
    failure(slug, capability, 502, kind=kind)


@pytest.mark.parametrize(
    ("slug", "capability", "body"),
    crossed(CALLS, ADAPTERS, [b"{}", b"[]", b"null", b'"text"', b"7", b"true", b'{"unknown": 1}']),
)
def test_json_without_a_result_is_an_error(failure, upstream, slug, capability, body):
    upstream.will_answer(body)
    failure(slug, capability, 502, kind="empty")
    assert len(upstream.sent) == 1


def chat(**message):
    return {"choices": [{"message": message, "finish_reason": "stop"}]}


def parts(*parts, **candidate):
    return {"candidates": [{"content": {"parts": list(parts)}, **candidate}]}


@pytest.mark.parametrize(
    ("slug", "capability", "body"),
    [
        *[("openai", COMPLETION, {"choices": choices}) for choices in (None, [], {}, "x", [None], [{}], [[]], 7)],
        *[("openai", COMPLETION, {"choices": [{"message": message}]}) for message in (None, [], "x", {}, 7)],
        *[("openai", COMPLETION, chat(content=content)) for content in (None, "", " \n", 7, {}, [], [{"text": 7}])],
        ("openai", COMPLETION, {"choices": [{"message": {"content": "Hi"}, "finish_reason": ["stop"]}]}),
        ("openai", COMPLETION, chat(content=None, refusal=["no"])),
        *[("claude", COMPLETION, {"content": content}) for content in (None, [], {}, "x", [None], [{}], 7)],
        ("claude", COMPLETION, {"content": [{"type": "text"}]}),
        ("claude", COMPLETION, {"content": [{"type": "text", "text": 7}]}),
        ("claude", COMPLETION, {"content": [{"type": "tool_use", "name": "x"}]}),
        *[("google", COMPLETION, {"candidates": candidates}) for candidates in (None, [], {}, "x", [None], [{}], 7)],
        *[("google", COMPLETION, {"candidates": [{"content": content}]}) for content in (None, [], "x", {}, 7)],
        *[("google", COMPLETION, parts(part)) for part in (None, "x", {}, {"text": 7}, {"text": " "})],
        ("google", COMPLETION, parts({"text": "Only thought.", "thought": True})),
        *[("openai", EMBEDDING, {"data": data}) for data in (None, {}, "xy", 7, [None, None], [{}, {}])],
        *[("google", EMBEDDING, {"embeddings": both}) for both in (None, {}, "xy", 7, [None, None], [{}, {}])],
        *[("google", EMBEDDING, {"embeddings": [{"values": values}] * 2}) for values in (None, [], "x", {}, [None])],
        ("google", EMBEDDING, {"embeddings": [{"values": ["x"]}] * 2}),
        ("google", EMBEDDING, b'{"embeddings": [{"values": [1.0]}, {"values": [NaN]}]}'),
        ("google", EMBEDDING, b'{"embeddings": [{"values": [1.0]}, {"values": [1e999]}]}'),
        *[("openai", IMAGE, {"data": data}) for data in (None, [], {}, "x", 7, [None], [{}], ["x"])],
        *[("openai", IMAGE, {"data": [image]}) for image in ({"url": 7}, {"b64_json": ["x"]}, {"url": ""})],
        ("openai", IMAGE, {"data": [{"url": "https://cdn.example/cat.png", "revised_prompt": 7}]}),
        ("google", IMAGE, parts({"text": "I can't draw."})),
        ("google", IMAGE, parts({"inlineData": {"mimeType": "image/png"}})),
        ("google", IMAGE, parts({"inlineData": {"mimeType": "image/png", "data": "no base64!"}})),
        ("google", IMAGE, parts({"inlineData": {"mimeType": "image/png", "data": 7}})),
        ("google", IMAGE, parts({"inlineData": "x"})),
        ("google", IMAGE, {"promptFeedback": {"blockReason": "SAFETY"}}),
    ],
)
def test_json_of_the_wrong_shape_is_an_error(failure, upstream, slug, capability, body):
    upstream.will_answer(body)
    failure(slug, capability, 502, kind="empty")


@pytest.mark.parametrize("body", [b'{"choices": [{"message": {"content": "Hi"}}], "usage": {"total_tokens": NaN}}'])
def test_nan_is_not_valid_json(failure, upstream, body):
    upstream.will_answer(body)
    failure("openai", COMPLETION, 502, code="json_decode_error")


@pytest.mark.parametrize(
    ("slug", "answer", "code", "words"),
    [
        ("openai", {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}, None, "token limit"),
        (
            "openai",
            {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]},
            "content_filter",
            "withheld",
        ),
        (
            "azure",
            {"choices": [{"message": {}, "finish_reason": "content_filter"}]},
            "content_filter_logic",
            "withheld",
        ),
        (
            "openrouter",
            {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]},
            "content_filter_logic",
            "withheld",
        ),
        ("deepseek", {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}, None, "token limit"),
        ("claude", {"content": [], "stop_reason": "max_tokens"}, None, "token limit"),
        ("claude", {"content": [], "stop_reason": "refusal"}, "content_filter", "withheld"),
        ("google", {"candidates": [{"finishReason": "MAX_TOKENS"}]}, None, "token limit"),
        ("google", {"candidates": [{"finishReason": "SAFETY"}]}, None, "withheld"),
        ("google", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, None, "withheld"),
    ],
)
def test_a_completion_without_text_reports_the_reason(failure, upstream, slug, answer, code, words):
    upstream.will_answer(answer)
    assert words in failure(slug, COMPLETION, 502, code=code or NO_TEXT_CODES[slug])
