"""Ollama's own protocol: what is sent, whole and streamed answers, failures, and servers that do not speak it."""

import json
import time
from typing import Any

import pytest

from providers.base import CompletionChunk, CompletionRequest, Message, Sampling
from tests.support.providers.answers import CHAT_COMPLETION, CHAT_STREAM
from tests.support.providers.recorded_usage import ESTIMATED, recorded_usage
from tests.support.providers.requests import CHAT_MESSAGES, CONVERSATION, generate
from tests.support.providers.saved import save
from tests.support.providers.streams import HELLO, failure_of, joined, open_call, run_on_loop, stream

pytestmark = pytest.mark.django_db

NDJSON = "application/x-ndjson"
COUNTS = {"prompt_eval_count": 11, "eval_count": 5, "total_duration": 4_883_583_458}


def piece(content: str, **more: Any) -> bytes:
    message = {"role": "assistant", "content": content} | more
    return json.dumps({"model": "some-model", "message": message, "done": False}).encode() + b"\n"


def end(reason: str = "stop") -> bytes:
    message = {"role": "assistant", "content": ""}
    last = {"model": "some-model", "message": message, "done": True, "done_reason": reason, **COUNTS}
    return json.dumps(last).encode() + b"\n"


def answer(content: str, **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content} | message
    return {"model": "some-model", "message": message, "done": True, "done_reason": "stop", **COUNTS}


@pytest.fixture
def ollama(upstream):
    upstream.serves("/api/version", {"version": "0.14.2"})
    return upstream


def chat_calls(upstream):
    return [sent for sent in upstream.sent if sent.path != "/api/version"]


def test_the_request_says_how_many_tokens_to_read(api, ollama):
    ollama.will_answer(answer("Hi!"))
    assert generate(api, "ollama", **CONVERSATION).json()["content"] == "Hi!"
    (request,) = chat_calls(ollama)
    assert (request.method, request.target) == ("POST", "/api/chat")
    assert request.json == {
        "model": "some-model",
        "messages": CHAT_MESSAGES,
        "stream": False,
        "options": {
            "num_ctx": 8192,
            "num_predict": 300,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "frequency_penalty": 0.1,
            "presence_penalty": 0.2,
            "stop": ["END", "STOP"],
        },
    }
    assert recorded_usage() == (200, "", 11, 5)


def test_options_that_are_not_set_are_not_sent(api, ollama):
    ollama.will_answer(answer("Hi!"))
    generate(api, "ollama")
    assert chat_calls(ollama)[0].json["options"] == {"num_ctx": 8192, "temperature": 1.0, "top_p": 1.0}


@pytest.mark.parametrize(("saved", "environment", "sent"), [(32_768, 8192, 32_768), (None, 16_384, 16_384)])
def test_the_saved_context_length_wins_over_the_environments(api, ollama, settings, saved, environment, sent):
    settings.OLLAMA_CONTEXT_LENGTH = environment
    save("ollama", context_length=saved)
    ollama.will_answer(answer("Hi!"))
    generate(api, "ollama")
    assert chat_calls(ollama)[0].json["options"]["num_ctx"] == sent


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/chat/completions", "/api", "/api/chat"])
def test_the_path_below_any_form_of_the_base_url(api, ollama, settings, path):
    settings.PROVIDER_ENVIRONMENT["ollama"]["base_url"] = ollama.url + path
    ollama.will_answer(answer("Hi!"))
    assert generate(api, "ollama").status_code == 200
    assert chat_calls(ollama)[0].target == "/api/chat"


def test_ollama_behind_a_path_of_a_proxy(api, ollama, settings):
    ollama.serves("/ollama/api/version", {"version": "0.14.2"})
    settings.PROVIDER_ENVIRONMENT["ollama"] = {"base_url": f"{ollama.url}/ollama", "api_key": "proxy-key"}
    ollama.will_answer(answer("Hi!"))
    assert generate(api, "ollama").status_code == 200
    assert [sent.target for sent in ollama.sent] == ["/ollama/api/version", "/ollama/api/chat"]
    assert {sent.headers["authorization"] for sent in ollama.sent} == {"Bearer proxy-key"}


def test_a_stream(ollama):
    ollama.will_stream([piece("H"), piece("i!"), end()], content_type=NDJSON)
    *pieces, last = stream("ollama")
    assert pieces[:2] == [CompletionChunk("H"), CompletionChunk("i!")]
    assert (last.finish_reason, last.usage.input_tokens, last.usage.output_tokens) == ("stop", 11, 5)
    assert chat_calls(ollama)[0].json["stream"] is True
    assert recorded_usage() == (200, "", 11, 5)


def test_pieces_arrive_as_they_are_sent(ollama):
    ollama.will_stream([piece("Hello"), piece(" there"), end()], pause=0.2, content_type=NDJSON)

    async def calls():
        async with open_call("ollama") as call:
            return [(chunk.text, time.monotonic()) async for chunk in call if chunk.text]

    (first, first_at), (second, second_at) = run_on_loop(calls)
    assert (first, second) == ("Hello", " there")
    assert second_at - first_at > 0.15


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_may_be_cut_anywhere(ollama, size):
    sent = piece("Grüße, 你好") + b"\r\n" + piece("!") + end()
    parts = [sent[at : at + size] for at in range(0, len(sent), size)]
    ollama.will_stream(parts, content_type=NDJSON)
    assert joined(stream("ollama")) == "Grüße, 你好!"


def test_thinking_is_not_shown(api, ollama):
    ollama.will_stream([piece("", thinking="They greet."), piece("<think>So do I"), piece("</think>Hi!"), end()],
                       content_type=NDJSON)  # fmt: skip
    assert joined(stream("ollama")) == "Hi!"
    ollama.will_answer(answer("Hi!", thinking="They greet."))
    assert generate(api, "ollama").json()["content"] == "Hi!"


@pytest.mark.parametrize(("effort", "think"), [("none", False), ("low", None), (None, None)])
def test_only_a_request_not_to_think_is_passed_on(ollama, effort, think):
    ollama.will_stream([piece("Hi!"), end()], content_type=NDJSON)
    stream("ollama", CompletionRequest("m", [Message("user", "Hi")], sampling=Sampling(reasoning_effort=effort)))
    assert chat_calls(ollama)[0].json.get("think") is think


def test_an_answer_cut_by_its_limit(ollama):
    ollama.will_stream([piece("Hello"), end("length")], content_type=NDJSON)
    assert stream("ollama")[-1].finish_reason == "length"


@pytest.mark.parametrize("status", [404, 400, 500])
def test_ollamas_own_words_reach_the_caller(api, ollama, status):
    ollama.will_answer({"error": 'model "some-model" not found, try pulling it first'}, status=status)
    response = generate(api, "ollama")
    assert response.status_code >= 400
    assert "try pulling it first" in response.json()["message"]


def test_a_failure_within_a_stream(ollama):
    ollama.will_stream([piece("Hello"), b'{"error":"llama runner process no longer running"}\n'], content_type=NDJSON)
    error, said = failure_of("ollama")
    assert said == "Hello"
    assert "no longer running" in error.message


@pytest.mark.parametrize("then", ["end", "break off"])
@pytest.mark.parametrize("last", [b"", b'{"model":"some-model","mess'])
def test_a_stream_that_ends_early_is_an_error(ollama, then, last):
    ollama.will_stream([piece("Hello"), *filter(None, [last])], then=then, content_type=NDJSON)
    error, said = failure_of("ollama")
    assert (error.status, said) == (502, "Hello")
    assert recorded_usage()[2:] == ESTIMATED


def test_a_line_that_is_not_json_is_an_error(ollama):
    ollama.will_stream([piece("Hello"), b"{oops}\n", end()], content_type=NDJSON)
    assert failure_of("ollama")[0].status == 502


def test_an_endless_line_is_an_error(ollama):
    ollama.will_stream((b'{"x": "' + b"x" * 1_000_000 for _ in range(9)), content_type=NDJSON)
    assert failure_of("ollama")[0].status == 502


# Servers that only speak OpenAI's protocol


@pytest.mark.parametrize(
    ("version", "status"),
    [
        (b"Not Found", 404),
        ({"error": "Unexpected endpoint or method. (GET /api/version)"}, 200),  # LM Studio
        (b"<html>", 200),
        ([], 200),
        ({"version": 1}, 200),
        (b"oops", 500),
    ],
)
def test_other_servers_are_called_by_openais_protocol(api, upstream, version, status):
    upstream.serves("/api/version", version, status)
    upstream.will_answer(CHAT_COMPLETION)
    assert generate(api, "ollama").json()["content"] == "Hi!"
    upstream.will_stream(CHAT_STREAM)
    assert joined(stream("ollama")) == "Hi!"
    assert [sent.target for sent in chat_calls(upstream)] == ["/v1/chat/completions"] * 2


def test_the_server_is_asked_for_its_version_once(ollama):
    async def calls():
        for _ in range(3):
            ollama.will_stream([piece("Hi!"), end()], content_type=NDJSON)
            async with open_call("ollama", HELLO) as call:
                [chunk async for chunk in call]

    run_on_loop(calls)
    assert [sent.path for sent in ollama.sent] == ["/api/version", *["/api/chat"] * 3]


def test_a_server_that_does_not_answer_is_asked_again_at_the_next_call(ollama):
    async def calls():
        ollama.pages["/api/version"] = lambda connection: setattr(connection, "close_connection", True)
        ollama.will_answer({"error": "starting"}, status=503)
        with pytest.raises(Exception, match="starting"):
            async with open_call("ollama") as call:
                [chunk async for chunk in call]
        ollama.serves("/api/version", {"version": "0.14.2"})
        ollama.will_stream([piece("Hi!"), end()], content_type=NDJSON)
        async with open_call("ollama") as call:
            return [chunk.text async for chunk in call]

    assert "".join(run_on_loop(calls)) == "Hi!"
