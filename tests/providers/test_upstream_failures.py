"""Provider failures: puffer's status and code, the provider's message without secrets, and no retry."""

import gzip
import json
import tracemalloc

import pytest

from providers.base import Capability
from providers.registry import PROVIDERS, providers_with
from tests.support.providers.answers import COMPLETIONS, EMBEDDING_LIST, EMBEDDINGS, GPT_IMAGE, IMAGES, environment
from tests.support.providers.failures import ERRORS, NO_ANSWERS, NO_TEXT_CODES
from tests.support.rows import crossed
from tests.support.upstream import closed_port, full_backlog

COMPLETION, EMBEDDING, IMAGE = Capability.COMPLETION, Capability.EMBEDDING, Capability.IMAGE
# Each provider with each of its capabilities.
CALLS = [
    (provider.slug, capability)
    for capability in (Capability.COMPLETION, Capability.EMBEDDING, Capability.IMAGE)
    for provider in providers_with(capability)
]
# One provider per adapter, with each of its capabilities.
ADAPTERS = [(slug, capability) for slug, capability in CALLS if slug in ("openai", "claude", "google")]
# One provider per protocol.
PROTOCOLS = [("openai", COMPLETION), ("claude", COMPLETION), ("google", COMPLETION), ("google", IMAGE)]
GOOD = {COMPLETION: COMPLETIONS, EMBEDDING: EMBEDDINGS, IMAGE: IMAGES}
MESSAGE_TEMPLATES = {
    COMPLETION: "{label} API Error (HTTP {status}): {text}",
    EMBEDDING: "{label} Embeddings API Error ({status}): {text}",
    IMAGE: "{label} Image API Error ({status}): {text}",
}
GOOGLE_IMAGE_CODES = {
    400: "google_interactions_invalid_request",
    401: "google_interactions_auth_error",
    403: "google_interactions_auth_error",
    404: "google_interactions_not_found",
    429: "google_interactions_rate_limited",
    **dict.fromkeys((500, 501, 502, 503, 504, 529), "google_interactions_server_error"),
}


def code_for(slug, capability, kind, status=0):
    """Return the error code for a `kind`: api, transport, unreadable (not JSON) or empty (JSON without a result)."""
    if capability is COMPLETION:
        codes = {"api": "api_error", "transport": "http_request_failed", "unreadable": "json_decode_error"}
        return codes.get(kind) or NO_TEXT_CODES[slug]
    if capability is EMBEDDING:
        suffix = {"api": "api_error_logic", "transport": "http_error_logic"}.get(kind, "no_data_logic")
        return f"{slug}_embedding_{suffix}"
    if slug == "google":
        other = {
            "api": "google_interactions_api_error",
            "transport": "google_interactions_http_error",
            "unreadable": "google_interactions_invalid_json",
            "empty": "google_interactions_missing_image_output",
        }
        return GOOGLE_IMAGE_CODES.get(status, other[kind])
    suffixes = {"api": "api_error", "transport": "http_error", "unreadable": "api_error", "empty": "no_data"}
    return f"{slug}_image_{suffixes[kind]}"


def call(api, slug, capability, model="some-model", **options):
    body = {"provider": slug, "model": model}
    if capability is COMPLETION:
        return api.post("/generate", json={**body, "messages": [{"role": "user", "content": "Hi"}]}, **options)
    if capability is EMBEDDING:
        return api.post("/embeddings", json={**body, "input": ["one", "two"]}, **options)
    return api.post("/images/generate", json={**body, "prompt": "a cat"}, **options)


def assert_failed(answer, status, code):
    """Check that the error's data contains only the status, and return its message."""
    error = answer.json()
    assert (answer.status_code, error["code"]) == (status, code), error
    assert error["data"] == {"status": status}
    assert error.keys() == {"code", "message", "data"}
    return error["message"]


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    settings.MEDIA_ROOT = str(tmp_path)


def test_every_provider_is_in_every_table():
    assert ERRORS.keys() == NO_TEXT_CODES.keys() == PROVIDERS.keys()


# Error statuses


@pytest.mark.parametrize(
    ("slug", "capability", "upstream_status", "status"),
    crossed(CALLS, ADAPTERS, [
        (400, 400),
        (401, 502),  # our key, not the caller's
        (402, 502),  # our bill
        (403, 502),
        (404, 404),
        (408, 408),
        (409, 409),
        (413, 413),
        (418, 502),
        (422, 422),
        (429, 429),
        (500, 502),
        (501, 502),
        (502, 502),
        (503, 503),
        (504, 502),
        (529, 503),  # Anthropic's overload
    ]),
)  # fmt: skip
def test_an_error_status(api, upstream, slug, capability, upstream_status, status):
    body, text = ERRORS[slug]
    upstream.will_answer(body, upstream_status)
    message = assert_failed(
        call(api, slug, capability), status, code_for(slug, capability, "api", status=upstream_status)
    )
    label = PROVIDERS[slug].label
    assert message == MESSAGE_TEMPLATES[capability].format(label=label, status=upstream_status, text=text)
    assert len(upstream.sent) == 1


@pytest.mark.parametrize(("slug", "capability"), CALLS)
def test_a_redirect_is_not_followed(api, upstream, slug, capability):
    upstream.serves("/elsewhere", GOOD[capability][slug])
    upstream.will_answer(b"", 302, {"Location": f"{upstream.url}/elsewhere"})
    message = assert_failed(call(api, slug, capability), 502, code_for(slug, capability, "api"))
    assert "redirect" in message
    assert len(upstream.sent) == 1


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
@pytest.mark.parametrize(
    ("upstream_status", "retry_after", "expected"),
    [
        (429, "30", "30"),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"),
        (503, "30", "30"),
        (529, "30", "30"),
        (429, None, None),
        (429, "<b>soon</b>", None),
        (429, "9" * 50, None),
        (400, "30", None),
        (500, "30", None),
    ],
)
def test_retry_after_is_passed_on(api, upstream, slug, capability, upstream_status, retry_after, expected):
    upstream.will_answer(ERRORS[slug][0], upstream_status, {"Retry-After": retry_after} if retry_after else {})
    assert call(api, slug, capability).headers.get("Retry-After") == expected


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html>\n<title>502</title><style>a</style> Bad   gateway</html>", "502 a Bad gateway"),
        (b"upstream connect error " + 500 * b"x", "upstream connect error " + 177 * "x"),
        (b"", "Said So"),  # the reason phrase of the status line
        (b'{"error": {}}', "Said So"),
        (b'{"error": {"foo": 1}}', "Said So"),
        (b'{"error": "Plain."}', "Plain."),
        (b'{"error": ["a", "b"]}', "a; b"),
        (b'{"error": {"message": {"a": 1}}}', "{'a': 1}"),
        (b'{"error": {"message": "Hm.", "code": {"a": 1}}}', "Hm. (Code: {'a': 1})"),
        (b'{"message": "Plain."}', "Plain."),
        (b'{"detail": [{"msg": "field required"}]}', "field required"),
        (b'[{"error": {"code": 500, "message": "In a list."}}]', "In a list."),  # as Google has it in streams
        (b"[]", "[]"),
        (b"null", "null"),
        (b'"Oh no."', '"Oh no."'),
        (b'{"error": {"message": "' + 3000 * b"x" + b'"}}', 1000 * "x"),
        ('{"error": {"message": "Grüße, 你好"}}'.encode(), "Grüße, 你好"),
        (b"<" * 100_000, "<" * 200),  # must not take a tag parser long
    ],
)
def test_the_message_is_read_from_every_shape_of_error(api, upstream, slug, capability, body, text):
    upstream.will_answer(body, 500)
    message = assert_failed(call(api, slug, capability), 502, code_for(slug, capability, "api", status=500))
    assert message == MESSAGE_TEMPLATES[capability].format(label=PROVIDERS[slug].label, status=500, text=text)


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
@pytest.mark.parametrize("body", [b"\xff\xfe\x00 Gr\xfc\xdfe", b"[" * 100_000, b"\x1f\x8b\x08"])
def test_an_unreadable_error_is_still_an_error(api, upstream, slug, capability, body):
    upstream.will_answer(body, 500)
    answer = call(api, slug, capability)
    assert answer.status_code == 502
    assert answer.json()["data"] == {"status": 502}


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        ({"message": "Slow down.", "code": 429}, 429, "OpenRouter API Error (HTTP 429): Slow down."),
        ({"message": "Overloaded.", "code": 503}, 503, "OpenRouter API Error (HTTP 503): Overloaded."),
        ({"message": "No.", "code": 403}, 502, "OpenRouter API Error (HTTP 403): No."),
        ({"message": "No.", "code": "server_error"}, 502, "OpenRouter API Error (HTTP 502): No. (Code: server_error)"),
        ("No.", 502, "OpenRouter API Error (HTTP 502): No."),
    ],
)
def test_an_error_with_status_200_is_recognized(api, upstream, error, status, text):
    upstream.will_answer({"error": error, "user_id": "user_1"})
    assert assert_failed(call(api, "openrouter", COMPLETION), status, "api_error") == text


# Missing answers


@pytest.mark.parametrize(("slug", "capability", "fault", "words"), crossed(CALLS, ADAPTERS, NO_ANSWERS))
def test_a_call_without_an_answer(api, upstream, settings, slug, capability, fault, words):
    fault(upstream, settings, GOOD[capability][slug])
    message = assert_failed(call(api, slug, capability), 502, code_for(slug, capability, "transport"))
    assert message.startswith(f"HTTP request failed: {PROVIDERS[slug].label}")
    assert words in message
    assert len(upstream.sent) == 1


def test_a_gzip_bomb_does_not_fill_the_memory(api, upstream, settings):
    settings.MAX_ANSWER_BYTES = 2000
    upstream.will_answer(gzip.compress(50_000_000 * b" "), headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        assert call(api, "openai", COMPLETION).status_code == 502
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("slug", "capability"), ADAPTERS)
def test_compressed_answers_are_accepted(api, upstream, slug, capability):
    packed = gzip.compress(json.dumps(GOOD[capability][slug]).encode())
    upstream.will_answer(packed, headers={"Content-Encoding": "gzip"})
    assert call(api, slug, capability).status_code == 200
    assert upstream.sent[0].headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(("slug", "capability"), ADAPTERS)
def test_an_answer_of_the_maximum_size_is_accepted(api, upstream, settings, slug, capability):
    body = json.dumps(GOOD[capability][slug]).encode()
    settings.MAX_ANSWER_BYTES = len(body)
    upstream.will_answer(body)
    assert call(api, slug, capability).status_code == 200


@pytest.mark.parametrize(("slug", "capability"), ADAPTERS)
def test_a_stalled_provider_times_out(api, upstream, settings, slug, capability):
    settings.COMPLETION_TIMEOUT = settings.IMAGE_TIMEOUT = 0.25
    upstream.will_stall()
    message = assert_failed(call(api, slug, capability), 504, code_for(slug, capability, "transport"))
    assert message == f"HTTP request failed: {PROVIDERS[slug].label} did not answer within 0.25 seconds."
    assert upstream.client_hung_up.wait(5)  # so that the provider can stop
    assert len(upstream.sent) == 1


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
def test_a_provider_that_stalls_within_its_answer_times_out(api, upstream, settings, slug, capability):
    settings.COMPLETION_TIMEOUT = settings.IMAGE_TIMEOUT = 0.25
    upstream.will_stall(after=b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
    assert_failed(call(api, slug, capability), 504, code_for(slug, capability, "transport"))
    assert upstream.client_hung_up.wait(5)


def test_images_have_a_separate_timeout(api, upstream, settings):
    settings.COMPLETION_TIMEOUT, settings.IMAGE_TIMEOUT = 30, 0.1
    upstream.will_stall()
    assert "within 0.1 seconds" in call(api, "openai", IMAGE).json()["message"]
    settings.COMPLETION_TIMEOUT, settings.IMAGE_TIMEOUT = 0.1, 30
    upstream.will_stall()
    assert "within 0.1 seconds" in call(api, "openai", EMBEDDING).json()["message"]


@pytest.mark.parametrize(("slug", "capability"), CALLS)
def test_a_refused_connection_is_an_error(api, settings, slug, capability):
    with closed_port() as url:
        settings.PROVIDER_ENVIRONMENT = environment(url)
        message = assert_failed(call(api, slug, capability), 502, code_for(slug, capability, "transport"))
    assert message.startswith(f"HTTP request failed: {PROVIDERS[slug].label} cannot be reached")


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
def test_connecting_times_out(api, settings, slug, capability):
    settings.CONNECT_TIMEOUT = 0.1
    with full_backlog() as url:
        settings.PROVIDER_ENVIRONMENT = environment(url)
        assert_failed(call(api, slug, capability), 504, code_for(slug, capability, "transport"))


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
def test_an_unknown_host_is_an_error(api, settings, slug, capability):
    settings.PROVIDER_ENVIRONMENT = environment("https://nowhere.invalid")
    assert_failed(call(api, slug, capability), 502, code_for(slug, capability, "transport"))


# Invalid answers


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
def test_an_answer_that_is_not_json_is_an_error(api, upstream, slug, capability, body):
    upstream.will_answer(body)
    message = assert_failed(call(api, slug, capability), 502, code_for(slug, capability, "unreadable"))
    assert message == f"{PROVIDERS[slug].label} sent an answer that cannot be read."


@pytest.mark.parametrize(("slug", "capability"), CALLS)
def test_an_empty_answer_is_an_error(api, upstream, slug, capability):
    upstream.will_answer(b"")
    is_read_by_sdk = slug == "google" and capability is not COMPLETION
    kind = "empty" if is_read_by_sdk else "unreadable"  # Google's SDK takes nothing for {}
    assert_failed(call(api, slug, capability), 502, code_for(slug, capability, kind))


@pytest.mark.parametrize(
    ("slug", "capability", "body"),
    crossed(CALLS, ADAPTERS, [b"{}", b"[]", b"null", b'"text"', b"7", b"true", b'{"unknown": 1}']),
)
def test_json_without_a_result_is_an_error(api, upstream, slug, capability, body):
    upstream.will_answer(body)
    assert_failed(call(api, slug, capability), 502, code_for(slug, capability, "empty"))
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
def test_json_of_the_wrong_shape_is_an_error(api, upstream, slug, capability, body):
    upstream.will_answer(body)
    assert_failed(call(api, slug, capability), 502, code_for(slug, capability, "empty"))


@pytest.mark.parametrize("body", [b'{"choices": [{"message": {"content": "Hi"}}], "usage": {"total_tokens": NaN}}'])
def test_nan_is_not_valid_json(api, upstream, body):
    upstream.will_answer(body)
    assert_failed(call(api, "openai", COMPLETION), 502, "json_decode_error")


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
def test_a_completion_without_text_reports_the_reason(api, upstream, slug, answer, code, words):
    upstream.will_answer(answer)
    assert words in assert_failed(call(api, slug, COMPLETION), 502, code or NO_TEXT_CODES[slug])


# Secrets


@pytest.mark.parametrize(
    ("slug", "capability", "words"),
    crossed(CALLS, ADAPTERS, [
        "Incorrect API key provided: KEY.",
        "KEY",
        980 * "x" + " you sent KEY",  # the message is cut off within the key
        "GET https://api.example/v1/x?key=KEY&alt=json failed",
        "Authorization: Bearer KEY",
    ]),
)  # fmt: skip
def test_our_key_is_redacted(api, upstream, settings, slug, capability, words):
    key = settings.PROVIDER_ENVIRONMENT[slug].get("api_key", "")
    words = words.replace("KEY", key or "sk-other-0123456789")
    upstream.will_answer({"error": {"message": words, "code": words, "type": words}}, 401)
    message = call(api, slug, capability).json()["message"]
    assert "[redacted]" in message
    assert (key or "sk-other-0123456789")[:12] not in message


@pytest.mark.parametrize(
    ("words", "redacted"),
    [
        ("key sk-proj-abcdefghijk is wrong", "key [redacted] is wrong"),
        ("key sk-ab12*****************wxyz is wrong", "key [redacted] is wrong"),  # as OpenAI masks keys
        ("key AIzaSyA1234567890123456789 is wrong", "key [redacted] is wrong"),
        (
            "at https://x.example/v1?alt=json&api_key=abc123&b=2",
            "at https://x.example/v1?alt=json&api_key=[redacted]&b=2",
        ),
        ("at https://x.example/?access_token=abc", "at https://x.example/?access_token=[redacted]"),
        ("sent bearer abc.def-123, BEARER abc.def-123", "sent bearer [redacted], BEARER [redacted]"),
        ("xai-0123456789 and hf_abcdefgh", "[redacted] and [redacted]"),
        ("the task-force asks a risk-averse desk-worker", "the task-force asks a risk-averse desk-worker"),
    ],
)
@pytest.mark.parametrize("as_html", [False, True])
def test_everything_that_looks_like_a_key_is_redacted(api, upstream, words, redacted, as_html):
    upstream.will_answer(f"<p>{words}</p>".encode() if as_html else {"error": {"message": words}}, 400)
    assert call(api, "openai", COMPLETION).json()["message"] == f"OpenAI API Error (HTTP 400): {redacted}"


# Model names that would change the path

PATHS_WITH_MODEL = [("azure", COMPLETION), ("google", COMPLETION)]


@pytest.mark.parametrize(
    ("slug", "capability", "model"),
    crossed([call for call in CALLS if call[0] in ("azure", "google")], PATHS_WITH_MODEL, [
        "../../v1/files",
        ".",
        "..",
        "...",
        "a/../../b",
        "a/b",
        "a\\b",
        "a?key=x",
        "a#b",
        "a b",
        "a%2e%2e%2fb",
        "%2e%2e",
        "größe",
        "模型",
        "a:b",
        "a@b",
        "a\nb",
        "a\x00b",
        "https://evil.example/",
        "//evil.example",
        "models/..",
        "models/models/a",
        "tunedModels/..",
        "tunedModels/",
    ]),
)  # fmt: skip
def test_a_model_name_that_would_change_the_path_is_refused(api, upstream, slug, capability, model):
    assert_failed(call(api, slug, capability, model=model), 400, "rest_aipkit_invalid_param")
    assert upstream.sent == []


@pytest.mark.parametrize("slug", ["openai", "openrouter", "claude", "ollama"])
def test_other_providers_accept_any_model_name(api, upstream, slug):
    upstream.will_answer(COMPLETIONS[slug])
    assert call(api, slug, COMPLETION, model="../a b?c#d/größe:latest").status_code == 200
    assert upstream.sent[0].json["model"] == "../a b?c#d/größe:latest"
    assert ".." not in upstream.sent[0].target


# Not configured


@pytest.mark.parametrize(("slug", "capability"), [call for call in CALLS if PROVIDERS[call[0]].needs_api_key])
def test_a_provider_without_a_key_is_503(api, upstream, settings, slug, capability):
    settings.PROVIDER_ENVIRONMENT[slug]["api_key"] = ""
    message = assert_failed(call(api, slug, capability), 503, "missing_api_key")
    assert PROVIDERS[slug].label in message
    assert upstream.sent == []


@pytest.mark.parametrize("capability", [COMPLETION, EMBEDDING, IMAGE])
def test_azure_without_an_endpoint_is_503(api, settings, capability):
    settings.PROVIDER_ENVIRONMENT = {"azure": {"api_key": "azure0123456789"}}
    assert_failed(call(api, "azure", capability), 503, "missing_azure_endpoint")


@pytest.mark.parametrize("capability", [COMPLETION, EMBEDDING])
def test_a_bundled_model_that_is_not_running_is_503(api, settings, capability):
    settings.PROVIDER_ENVIRONMENT = {}
    assert_failed(call(api, "local", capability), 503, "provider_not_installed")


def test_a_failed_call_does_not_affect_the_next(api, upstream):
    """A broken connection is not reused."""
    upstream.will_hang_up()
    upstream.will_answer(EMBEDDING_LIST)
    upstream.will_answer(GPT_IMAGE, 500)
    statuses = [call(api, "openai", EMBEDDING).status_code, call(api, "openai", EMBEDDING).status_code]
    assert [*statuses, call(api, "openai", IMAGE).status_code] == [502, 200, 502]
