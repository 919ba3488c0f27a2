"""Provider failures: puffer's status and code, the provider's message without secrets, and no retry."""

import pytest

from providers.registry import PROVIDERS
from tests.support.providers.answers import COMPLETIONS, EMBEDDING_LIST, GPT_IMAGE
from tests.support.providers.failing_calls import ADAPTERS, CALLS, COMPLETION, EMBEDDING, GOOD, IMAGE, PROTOCOLS
from tests.support.providers.failures import ERRORS, NO_TEXT_CODES
from tests.support.rows import crossed

MESSAGE_TEMPLATES = {
    COMPLETION: "{label} API Error (HTTP {status}): {text}",
    EMBEDDING: "{label} Embeddings API Error ({status}): {text}",
    IMAGE: "{label} Image API Error ({status}): {text}",
}


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
def test_an_error_status(failure, upstream, slug, capability, upstream_status, status):
    body, text = ERRORS[slug]
    upstream.will_answer(body, upstream_status)
    message = failure(slug, capability, status, kind="api", upstream=upstream_status)
    label = PROVIDERS[slug].label
    assert message == MESSAGE_TEMPLATES[capability].format(label=label, status=upstream_status, text=text)
    assert len(upstream.sent) == 1


@pytest.mark.parametrize(("slug", "capability"), CALLS)
def test_a_redirect_is_not_followed(failure, upstream, slug, capability):
    upstream.serves("/elsewhere", GOOD[capability][slug])
    upstream.will_answer(b"", 302, {"Location": f"{upstream.url}/elsewhere"})
    message = failure(slug, capability, 502, kind="api")
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
def test_retry_after_is_passed_on(call, upstream, slug, capability, upstream_status, retry_after, expected):
    upstream.will_answer(ERRORS[slug][0], upstream_status, {"Retry-After": retry_after} if retry_after else {})
    assert call(slug, capability).headers.get("Retry-After") == expected


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
def test_the_message_is_read_from_every_shape_of_error(failure, upstream, slug, capability, body, text):
    upstream.will_answer(body, 500)
    message = failure(slug, capability, 502, kind="api", upstream=500)
    assert message == MESSAGE_TEMPLATES[capability].format(label=PROVIDERS[slug].label, status=500, text=text)


@pytest.mark.parametrize(("slug", "capability"), PROTOCOLS)
@pytest.mark.parametrize("body", [b"\xff\xfe\x00 Gr\xfc\xdfe", b"[" * 100_000, b"\x1f\x8b\x08"])
def test_an_unreadable_error_is_still_an_error(call, upstream, slug, capability, body):
    upstream.will_answer(body, 500)
    answer = call(slug, capability)
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
def test_an_error_with_status_200_is_recognized(failure, upstream, error, status, text):
    upstream.will_answer({"error": error, "user_id": "user_1"})
    assert failure("openrouter", COMPLETION, status, code="api_error") == text


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
def test_our_key_is_redacted(call, upstream, settings, slug, capability, words):
    key = settings.PROVIDER_ENVIRONMENT[slug].get("api_key", "")
    words = words.replace("KEY", key or "sk-other-0123456789")
    upstream.will_answer({"error": {"message": words, "code": words, "type": words}}, 401)
    message = call(slug, capability).json()["message"]
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
def test_everything_that_looks_like_a_key_is_redacted(call, upstream, words, redacted, as_html):
    upstream.will_answer(f"<p>{words}</p>".encode() if as_html else {"error": {"message": words}}, 400)
    assert call("openai", COMPLETION).json()["message"] == f"OpenAI API Error (HTTP 400): {redacted}"


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
def test_a_model_name_that_would_change_the_path_is_refused(failure, upstream, slug, capability, model):
    failure(slug, capability, 400, code="rest_aipkit_invalid_param", model=model)
    assert upstream.sent == []


@pytest.mark.parametrize("slug", ["openai", "openrouter", "claude", "ollama"])
def test_other_providers_accept_any_model_name(call, upstream, slug):
    upstream.will_answer(COMPLETIONS[slug])
    assert call(slug, COMPLETION, model="../a b?c#d/größe:latest").status_code == 200
    assert upstream.sent[0].json["model"] == "../a b?c#d/größe:latest"
    assert ".." not in upstream.sent[0].target


# Not configured


@pytest.mark.parametrize(("slug", "capability"), [call for call in CALLS if PROVIDERS[call[0]].needs_api_key])
def test_a_provider_without_a_key_is_503(failure, upstream, settings, slug, capability):
    settings.PROVIDER_ENVIRONMENT[slug]["api_key"] = ""
    message = failure(slug, capability, 503, code="missing_api_key")
    assert PROVIDERS[slug].label in message
    assert upstream.sent == []


@pytest.mark.parametrize("capability", [COMPLETION, EMBEDDING, IMAGE])
def test_azure_without_an_endpoint_is_503(failure, settings, capability):
    settings.PROVIDER_ENVIRONMENT = {"azure": {"api_key": "azure0123456789"}}
    failure("azure", capability, 503, code="missing_azure_endpoint")


@pytest.mark.parametrize("capability", [COMPLETION, EMBEDDING])
def test_a_bundled_model_that_is_not_running_is_503(failure, settings, capability):
    settings.PROVIDER_ENVIRONMENT = {}
    failure("local", capability, 503, code="provider_not_installed")


def test_a_failed_call_does_not_affect_the_next(call, upstream):
    """A broken connection is not reused."""
    upstream.will_hang_up()
    upstream.will_answer(EMBEDDING_LIST)
    upstream.will_answer(GPT_IMAGE, 500)
    statuses = [call("openai", EMBEDDING).status_code, call("openai", EMBEDDING).status_code]
    assert [*statuses, call("openai", IMAGE).status_code] == [502, 200, 502]
