"""Error bodies of each provider, and servers that send no readable answer."""

import gzip
import json

# Each provider's error body, and the part of our message that reports it.
ERRORS = {
    "openai": (
        {"error": {"message": "Oh no.", "type": "some_error", "param": None, "code": "some_code"}},
        "Oh no. (Code: some_code)",
    ),
    "azure": (
        {"error": {"message": "Oh no.", "code": "content_filter", "innererror": {"code": "ResponsibleAI"}}},
        "Oh no. (Code: content_filter, InnerCode: ResponsibleAI)",
    ),
    "google": (
        {"error": {"code": 499, "message": "Oh no.", "status": "SOME_STATUS", "details": [{"@type": "x"}]}},
        "Oh no.",
    ),
    "openrouter": (
        {"error": {"message": "Provider returned error", "code": 499, "metadata": {"raw": '{"detail": "Oh no."}'}}},
        "Provider returned error: Oh no.",
    ),
    "claude": (
        {"type": "error", "error": {"type": "some_error", "message": "Oh no."}, "request_id": "req_1"},
        "Oh no. (Type: some_error)",
    ),
    "deepseek": ({"error": {"message": "Oh no.", "type": "some_error", "code": None}}, "Oh no. (Type: some_error)"),
    "xai": ({"code": "some code", "error": "Oh no."}, "Oh no. (Code: some code)"),
    "ollama": ({"error": {"message": "Oh no.", "type": "some_error"}}, "Oh no. (Type: some_error)"),
    "local": ({"detail": "Oh no."}, "Oh no."),
}
NO_TEXT_CODES = {
    "openai": "invalid_response_structure_openai_logic",
    "azure": "invalid_response_structure_azure_logic",
    "google": "google_interactions_missing_text_output",
    "openrouter": "invalid_response_structure_openrouter_logic",
    "claude": "invalid_response_structure_claude",
    "deepseek": "empty_response_chatcompletion",
    "xai": "invalid_response_structure_xai",
    "ollama": "invalid_response_structure_ollama",
    "local": "invalid_response_structure_local",
}


def hang_up(upstream, settings, good):
    upstream.will_hang_up()


def break_off(upstream, settings, good):
    upstream.will_send(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + json.dumps(good).encode())


def break_off_within_a_chunk(upstream, settings, good):
    upstream.will_send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{")


def speak_something_else(upstream, settings, good):
    upstream.will_send(b"SSH-2.0-OpenSSH_9.2p1\r\n")


def send_endless_headers(upstream, settings, good):
    upstream.will_send(b"HTTP/1.1 200 OK\r\n" + b"x-long: " + 100_000 * b"x" + b"\r\n\r\n")


def break_off_an_error(upstream, settings, good):
    upstream.will_send(b"HTTP/1.1 500 Oh\r\ncontent-length: 5000\r\n\r\n{")


def send_too_much(upstream, settings, good):
    settings.MAX_ANSWER_BYTES = 2000
    upstream.will_answer({**good, "padding": 2000 * "x"})


def send_a_gzip_bomb(upstream, settings, good):
    settings.MAX_ANSWER_BYTES = 2000
    upstream.will_answer(gzip.compress(5_000_000 * b" "), headers={"Content-Encoding": "gzip"})


def send_a_gzip_bomb_as_an_error(upstream, settings, good):
    settings.MAX_ANSWER_BYTES = 2000
    upstream.will_answer(gzip.compress(5_000_000 * b" "), 500, {"Content-Encoding": "gzip"})


def send_no_gzip(upstream, settings, good):
    upstream.will_answer(good, headers={"Content-Encoding": "gzip"})


def send_another_packing(upstream, settings, good):
    upstream.will_answer(good, headers={"Content-Encoding": "br"})


NO_ANSWERS = [
    (hang_up, "closed the connection"),
    (break_off, "closed the connection"),
    (break_off_within_a_chunk, "closed the connection"),
    (break_off_an_error, "closed the connection"),
    (speak_something_else, "cannot be reached"),
    (send_endless_headers, "cannot be reached"),
    (send_too_much, "is larger than 2000 bytes"),
    (send_a_gzip_bomb, "is larger than 2000 bytes"),
    (send_a_gzip_bomb_as_an_error, "is larger than 2000 bytes"),
    (send_no_gzip, "cannot be decompressed"),
    (send_another_packing, "has an unknown content encoding"),
]
