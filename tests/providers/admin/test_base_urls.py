"""Base URLs, as they are pasted and as they are called."""

import pytest

from providers.adapters.base_urls import clean_base_url, with_version
from providers.registry import PROVIDERS
from tests.support.providers.answers import CHAT_COMPLETION, COMPLETIONS
from tests.support.providers.saved import generate, save

DEPLOYMENT = "/openai/deployments/some-model/chat/completions"


@pytest.mark.parametrize(
    "base_url",
    [
        "http://example.com/v1",
        "http://10.0.0.1",
        "http://169.254.169.254",
        "http://127.0.0.1.example.com",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "https://",
        "127.0.0.1:8080",
        "api.openai.com/v1",
        "https://user:password@127.0.0.1",
        "https://user@127.0.0.1",
        "https://127.0.0.1/v1?key=x",
        "https://127.0.0.1/v1#x",
        "https://[::1",
        "https://127.0.0.1:99999",
        "https://127.0.0.1:port",
        "https://exam\x01ple.com",
    ],
)
@pytest.mark.parametrize("slug", ["openai", "azure", "google", "claude"])
@pytest.mark.parametrize("saved", [False, True])
def test_a_base_url_that_is_not_allowed_is_never_called(api, upstream, settings, slug, base_url, saved):
    if saved:
        save(slug, base_url=base_url)
    else:
        settings.PROVIDER_ENVIRONMENT[slug]["base_url"] = base_url
    answer = generate(api, slug)
    assert (answer.status_code, answer.json()["code"]) == (503, "invalid_base_url")
    assert answer.json()["data"] == {"status": 503}
    assert upstream.sent == []


def test_plain_http_is_allowed_for_loopback_and_allowlisted_hosts(api, upstream, settings):
    settings.PROVIDER_ENVIRONMENT["openai"]["base_url"] = f"http://localhost:{upstream.server_port}"
    upstream.will_answer(CHAT_COMPLETION)
    assert generate(api).status_code == 200
    settings.PROVIDER_ENVIRONMENT["openai"]["base_url"] = "http://gpu-box.invalid:11434"
    assert generate(api).status_code == 503
    settings.PRIVATE_HOST_ALLOWLIST = ["gpu-box.invalid"]
    assert generate(api).json()["code"] == "http_request_failed"  # allowed, but the host does not exist


@pytest.mark.parametrize(
    ("slug", "base_url", "target"),
    [
        ("openai", "", "/v1/chat/completions"),
        ("openai", "/", "/v1/chat/completions"),
        ("openai", "/v1", "/v1/chat/completions"),
        ("openai", "/v1/", "/v1/chat/completions"),
        ("openai", "/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("openai", "/api/v3", "/api/v3/chat/completions"),
        ("openai", "/proxy", "/proxy/v1/chat/completions"),
        ("deepseek", "", "/v1/chat/completions"),
        ("openrouter", "/api", "/api/v1/chat/completions"),
        ("xai", "/v1", "/v1/chat/completions"),
        ("ollama", "/v1", "/v1/chat/completions"),
        ("local", "/", "/v1/chat/completions"),
        ("claude", "", "/v1/messages"),
        ("claude", "/", "/v1/messages"),
        ("claude", "/v1", "/v1/messages"),
        ("claude", "/anthropic/v1/", "/anthropic/v1/messages"),
        ("google", "/", "/v1beta/models/some-model:generateContent"),
        ("google", "/v1beta", "/v1beta/models/some-model:generateContent"),
        ("google", "/gemini", "/gemini/v1beta/models/some-model:generateContent"),
        ("azure", "/", f"{DEPLOYMENT}?api-version=2025-01-01-preview"),
        # as they are pasted
        ("openai", "/v1/chat/completions", "/v1/chat/completions"),
        ("openai", "//v1/v1/chat/completions/", "/v1/chat/completions"),
        ("openai", "/v1/models", "/v1/chat/completions"),
        ("openai", "/openrouter/v1/embeddings", "/openrouter/v1/chat/completions"),
        ("openai", "/inference/chat/completions", "/inference/chat/completions"),  # has no version
        ("openai", "/chat/completions", "/chat/completions"),
        ("openai", "/v1/responses", "/v1/chat/completions"),
        ("ollama", "/api", "/v1/chat/completions"),
        ("ollama", "/api/chat", "/v1/chat/completions"),
        ("ollama", "/ollama/api/", "/ollama/v1/chat/completions"),
        ("ollama", "/v1/chat/completions", "/v1/chat/completions"),
        ("claude", "/v1/messages", "/v1/messages"),
        ("claude", "/anthropic/v1/messages/", "/anthropic/v1/messages"),
        ("google", "/v1", "/v1beta/models/some-model:generateContent"),
        ("google", "/v1beta/models/gemini-9:generateContent", "/v1beta/models/some-model:generateContent"),
        ("google", "/gemini/v1beta/openai/", "/gemini/v1beta/models/some-model:generateContent"),
        ("azure", "/openai", f"{DEPLOYMENT}?api-version=2025-01-01-preview"),
        ("azure", f"{DEPLOYMENT}?api-version=2024-10-21", f"{DEPLOYMENT}?api-version=2024-10-21"),
        ("azure", f"/gateway{DEPLOYMENT}", f"/gateway{DEPLOYMENT}?api-version=2025-01-01-preview"),
        ("azure", "/openai/responses?api-version=2025-04-01", f"{DEPLOYMENT}?api-version=2025-04-01"),
        ("azure", "/openai/v1", "/openai/v1/chat/completions"),
        ("azure", "/openai/v1/", "/openai/v1/chat/completions"),
        ("azure", "/openai/v1/chat/completions?api-version=preview", "/openai/v1/chat/completions"),
        ("azure", "/models/chat/completions?api-version=2024-05-01-preview", "/openai/v1/chat/completions"),
        ("azure", "/api/projects/shop", "/openai/v1/chat/completions"),
    ],
)
def test_the_api_version_is_in_the_path_exactly_once(api, upstream, settings, slug, base_url, target):
    settings.PROVIDER_ENVIRONMENT[slug]["base_url"] = upstream.url + base_url
    upstream.will_answer(COMPLETIONS[slug])
    generate(api, slug)
    assert upstream.sent[0].target == target


def test_the_newer_api_of_azure_takes_the_deployment_as_the_model(api, upstream, settings):
    settings.PROVIDER_ENVIRONMENT["azure"]["base_url"] = f"{upstream.url}/openai/v1"
    upstream.will_answer(COMPLETIONS["azure"])
    generate(api, "azure")
    (sent,) = upstream.sent
    assert sent.json["model"] == "some-model"
    assert sent.headers["authorization"] == "Bearer azure0123456789abcdef"


@pytest.mark.parametrize(
    ("slug", "pasted", "meant"),
    [
        ("openrouter", "https://openrouter.ai", "https://openrouter.ai/api/v1"),
        ("openrouter", "https://openrouter.ai/v1/", "https://openrouter.ai/api/v1"),
        ("openrouter", "https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1"),
        ("openai", ' "https://api.openai.com/v1" ', "https://api.openai.com/v1"),
        ("openai", "<https://api.openai.com/v1/>", "https://api.openai.com/v1"),
        ("openai", "https://[::1", "https://[::1"),
        ("openai", "api.openai.com/v1", "api.openai.com/v1"),
        ("google", "https://example.com/v1beta?key=x", "https://example.com?key=x"),  # and is refused
    ],
)
def test_a_pasted_address_is_cut_to_the_base_url(slug, pasted, meant):
    assert clean_base_url(slug, pasted, PROVIDERS[slug].default_base_url) == (meant, "")


def test_a_version_in_the_host_name_is_ignored():
    assert with_version("https://v1.example.com") == "https://v1.example.com/v1"
