"""Failures with status 200, vendors' own words, and parameters that a server refuses."""

from typing import Any

import pytest

from puffer.api.errors import ApiError
from tests.support.providers.answers import (
    ANTHROPIC_MESSAGE,
    CHAT_COMPLETION,
    CHAT_DONE,
    CHAT_END,
    COMPLETIONS,
    event,
)
from tests.support.providers.requests import generate
from tests.support.providers.shapes import HELLO, PROTOCOLS
from tests.support.providers.stream_pieces import start_of
from tests.support.providers.streams import failure_of, joined, open_call, run_on_loop, stream

pytestmark = pytest.mark.django_db


FAILURES: list[tuple[Any, int, str]] = [
    ({"error": {"message": "Oh no.", "code": 429}}, 429, "Oh no."),
    ({"error": {"message": "Oh no.", "code": "429"}}, 429, "Oh no."),
    ({"error": {"message": "Oh no.", "type": "insufficient_quota"}}, 429, "Oh no. (Type: insufficient_quota)"),
    ({"error": {"message": "Oh no.", "status": "UNAVAILABLE"}}, 503, "Oh no."),
    ({"error": "Oh no."}, 502, "Oh no."),
    ({"error": {"error": {"message": "Oh no."}}}, 502, "Oh no."),
    ({"error": {"message": '{"error": {"message": "Oh no."}}'}}, 502, "Oh no."),
    ({"errors": [{"code": 5006, "message": "Oh no."}], "success": False, "result": {}}, 502, "Oh no. (Code: 5006)"),
    ({"code": "1301", "message": "Oh no.", "success": False}, 502, "Oh no. (Code: 1301)"),
    ({"code": 1301, "msg": "Oh no."}, 502, "Oh no. (Code: 1301)"),
    ({"message": "Oh no."}, 502, "Oh no."),
    ({"detail": "Oh no."}, 502, "Oh no."),
    ({"object": "error", "message": "Oh no.", "code": 400}, 400, "Oh no."),
    ({"error_code": 17, "error_msg": "Oh no."}, 502, "Oh no."),
    ({"base_resp": {"status_code": 1004, "status_msg": "Oh no."}, "choices": None}, 502, "Oh no. (Code: 1004)"),
    ({"choices": [{"index": 0, "error": {"code": 502, "message": "Oh no."}, "finish_reason": "error"}]}, 502, "Oh no."),
    ({"choices": [{"index": 0, "error": {"message": "Oh no."}, "delta": {"content": ""}}]}, 502, "Oh no."),
    ({"id": "", "choices": None, "code": 1113, "msg": "Oh no."}, 502, "Oh no. (Code: 1113)"),
    ({"choices": [], "usage": None, "message": "Oh no."}, 502, "Oh no."),
    ({"error": True, "message": "Oh no."}, 502, "Oh no."),
    ({"error": {"code": 429}, "message": "Oh no."}, 429, "Oh no."),
    ({"error": {"code": 500}}, 502, "It gave no reason."),
    ({"success": False}, 502, "It gave no reason."),
]


@pytest.mark.parametrize(("said", "status", "text"), FAILURES)
def test_a_failure_may_come_with_status_200(api, upstream, said, status, text):
    upstream.will_answer(said)
    refused = generate(api, "openai")
    assert (refused.status_code, refused.json()["code"]) == (status, "api_error")
    assert refused.json()["message"].endswith(text)


@pytest.mark.parametrize(("said", "status", "text"), FAILURES)
@pytest.mark.parametrize("last", [b"", CHAT_DONE])
def test_a_failure_may_be_an_event(upstream, said, status, text, last):
    upstream.will_stream([*start_of("openai"), event(said), last] if last else [*start_of("openai"), event(said)])
    error, before = failure_of("openai")
    assert (error.status, before) == (status, "Hello")
    assert error.message.endswith(text)


@pytest.mark.parametrize("slug", PROTOCOLS)
@pytest.mark.parametrize(
    "said",
    [
        b'event: error\ndata: {"message": "Oh no."}\n\n',
        b"event: error\ndata: Oh no.\n\n",
        b'event: error\ndata: "Oh no."\n\n',
        b'event: error\ndata: {"error": {"message": "Oh no."}}\n\n',
        b'data: {"type": "error", "message": "Oh no."}\n\n',
    ],
)
def test_an_event_named_error_is_one(upstream, slug, said):
    upstream.will_stream([*start_of(slug), said], then="silent")
    error, before = failure_of(slug)
    assert (error.status, error.code, before) == (502, "api_error", "Hello")
    assert "Oh no." in error.message


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "Slow down."}}},
            "Provider returned error: Slow down.",
        ),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": '{"error":{"message":"Slow."}}'}}},
            "Provider returned error: Slow.",
        ),
        ({"error": {"message": "Flagged.", "metadata": {"reasons": ["violence", "x"]}}}, "Flagged: violence; x"),
        ({"success": False, "errors": [{"code": 5006, "message": "Bad input"}]}, "Bad input (Code: 5006)"),
        ({"errors": [{"message": "One"}, {"message": "Two"}]}, "One; Two"),
        (
            {"detail": [{"loc": ["body", "model"], "msg": "Field required", "type": "missing"}]},
            "body.model: Field required",
        ),
        ({"error": {"message": "sk-or-v1-0123456789 is wrong"}}, "[redacted] is wrong"),
        ({"error": {"metadata": {"raw": "token=abcdef"}}}, "token=[redacted]"),
        ({"error": "Unauthorized", "message": "The token has expired."}, "The token has expired."),
        ({"error": True, "message": "Slow down."}, "Slow down."),
        ({"error": {"code": 429}, "message": "Slow down."}, "Slow down."),
        ({"__type": "ThrottlingException", "Message": "Slow down."}, "Slow down."),
        ({"fault": {"faultstring": "Invalid ApiKey", "detail": {"errorcode": "x"}}}, "Invalid ApiKey"),
    ],
)
def test_the_providers_words_are_passed_on(api, upstream, body, text):
    upstream.will_answer(body, 400)
    assert generate(api, "openrouter").json()["message"] == f"OpenRouter API Error (HTTP 400): {text}"


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}


@pytest.mark.parametrize(
    ("headers", "error", "seconds"),
    [
        ({"Retry-After": "1.5"}, {}, "2"),
        ({"Retry-After": "0.2"}, {}, "1"),
        ({"retry-after-ms": "1500"}, {}, "2"),
        ({"retry-after-ms": "250", "Retry-After": "60"}, {}, "1"),
        ({"retry-after-ms": "soon", "Retry-After": "60"}, {}, "60"),
        ({"retry-after-ms": "1500.25"}, {}, "2"),
        ({"retry-after-ms": "-1", "Retry-After": "60"}, {}, "60"),
        ({"Retry-After": "7s"}, {}, "7"),
        ({}, {"details": [{"@type": "x"}, RETRY_INFO]}, "35"),
        ({}, {"metadata": {"retry_after_seconds": 16}}, "16"),
        ({}, {"retry_after": 2.5}, "3"),
        ({}, {"retry_after": "nan"}, None),
        ({}, {"details": [{"retryDelay": "soon"}]}, None),
        ({}, {"details": "x", "metadata": []}, None),
        ({"Retry-After": "1e9"}, {}, None),
        ({"Retry-After": "-5"}, {}, None),
    ],
)
def test_the_time_to_wait_is_passed_on_in_whole_seconds(api, upstream, headers, error, seconds):
    upstream.will_answer({"error": {"message": "Slow down.", **error}}, 429, headers)
    assert generate(api, "google").headers.get("Retry-After") == seconds


@pytest.mark.parametrize("content_type", ["text/plain", "text/event-stream"])
def test_a_failure_may_be_words_alone(api, upstream, content_type):
    for _ in range(2):
        upstream.will_answer(b"upstream connect error", headers={"Content-Type": content_type})
    assert generate(api, "openai").json()["message"].endswith("upstream connect error")
    assert failure_of("openai")[0].message.endswith("upstream connect error")


def test_the_time_to_wait_may_come_with_status_200(api, upstream):
    upstream.will_answer({"error": {"message": "Slow down.", "code": 429}}, headers={"Retry-After": "7"})
    assert generate(api, "openai").headers["Retry-After"] == "7"


def pydantic_error(parameter: str) -> dict[str, Any]:
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", parameter], "msg": "Extra inputs not permitted"}]}


@pytest.mark.parametrize(
    ("status", "error", "left_out", "instead"),
    [
        (422, pydantic_error("max_completion_tokens"), "max_completion_tokens", {"max_tokens": 300}),
        (
            400,
            {"error": {"message": "Unsupported parameter: 'temperature' is not supported with this model."}},
            "temperature",
            {},
        ),
        (400, {"error": {"message": "unknown field", "param": "top_p"}}, "top_p", {}),
    ],
)
def test_a_refused_parameter_is_not_sent_again(api, upstream, status, error, left_out, instead):
    upstream.will_answer(error, status)
    for _ in range(2):
        upstream.will_answer(COMPLETIONS["openai"])
    ai_params = {"max_completion_tokens": 300, "temperature": 0.5, "top_p": 0.9}
    assert generate(api, "openai", ai_params=ai_params).json()["content"] == "Hi!"
    first, second = (sent.json for sent in upstream.sent)
    assert left_out in first
    assert second == {name: value for name, value in first.items() if name != left_out} | instead


def test_openai_may_want_the_other_name(api, upstream):
    message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    upstream.will_answer({"error": {"message": message, "param": "max_tokens"}}, 400)
    upstream.will_answer(COMPLETIONS["openrouter"])
    generate(api, "openrouter", ai_params={"max_completion_tokens": 300})
    assert [sent.json.get("max_completion_tokens") for sent in upstream.sent] == [None, 300]


def test_a_stream_is_asked_for_without_what_is_refused(upstream):
    upstream.will_answer(pydantic_error("stream_options"), 422)
    upstream.will_stream([HELLO, *CHAT_END])
    assert joined(stream("openai")) == "Hello"
    assert ["stream_options" in sent.json for sent in upstream.sent] == [True, False]


def test_a_server_without_streams_is_asked_for_the_whole(upstream):
    upstream.will_answer({"error": {"message": "Unsupported value: 'stream' is not supported here."}}, 400)
    upstream.will_answer(CHAT_COMPLETION)
    assert joined(stream("openai")) == "Hi!"
    assert [sent.json.keys() & {"stream", "stream_options"} for sent in upstream.sent][1] == set()


@pytest.mark.parametrize(
    ("status", "message", "calls"),
    [
        (400, "temperature must be at most 1.", 1),  # a wrong value is the caller's to mend
        (400, "The conversation is too long.", 1),
        (429, "stream_options", 1),
        (500, "Unknown parameter: temperature", 1),
        # Under the other name, which the server ignores, the caller's limit would not hold.
        (400, "max_completion_tokens is too large: 300. This model supports at most 100 completion tokens.", 1),
        (400, "Invalid max_completion_tokens value, the valid range of max_completion_tokens is [1, 100]", 1),
        (400, "`max_completion_tokens` is not valid: integer above maximum value, expected a value <= 100", 1),
        (400, "This model supports values of temperature between 0 and 1.", 1),
        (400, "max_completion_tokens is not supported.", 2),  # nor is the other name
    ],
)
def test_any_other_refusal_is_passed_on(api, upstream, status, message, calls):
    upstream.will_answer({"error": {"message": message}}, status)
    upstream.will_answer({"error": {"message": "max_tokens is not supported."}}, 400)
    refused = generate(api, "openai", ai_params={"max_completion_tokens": 300, "temperature": 1.8})
    assert refused.json()["code"] == "api_error"
    assert len(upstream.sent) == calls


def test_what_a_server_refuses_is_remembered(upstream):
    upstream.will_answer(pydantic_error("stream_options"), 422)
    for _ in range(2):
        upstream.will_stream([HELLO, *CHAT_END])

    async def calls() -> None:
        for _ in range(2):
            async with open_call("openai") as call:
                assert joined([chunk async for chunk in call]) == "Hello"

    run_on_loop(calls)
    assert ["stream_options" in sent.json for sent in upstream.sent] == [True, False, False]


def test_an_answer_is_not_asked_for_twice_when_it_fails_midway(upstream):
    upstream.will_stream([*start_of("openai"), event(pydantic_error("stream_options"))])
    with pytest.raises(ApiError):
        stream("openai")
    assert len(upstream.sent) == 1


def test_a_message_of_anthropic_may_lack_its_type(api, upstream):
    upstream.will_answer({name: value for name, value in ANTHROPIC_MESSAGE.items() if name != "type"})
    assert generate(api, "claude").json()["content"] == "Hi!"
