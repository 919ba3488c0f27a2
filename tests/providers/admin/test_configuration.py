"""A provider's key and base URL: where they come from, when changes apply, and how keys are encrypted."""

import asyncio
import json

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from providers.adapters.base_urls import clean_base_url, with_version
from providers.base import Capability
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, adapter_for, close_clients, is_configured, settings_of
from puffer.api.errors import ApiError
from tests.support.providers.answers import CHAT_COMPLETION, COMPLETIONS

HI = [{"role": "user", "content": "Hi"}]
SECRET = "sk-saved-0123456789"


def generate(api, provider="openai"):
    return api.post("/generate", json={"provider": provider, "model": "some-model", "messages": HI})


def save(slug, **fields):
    config = ProviderConfig.objects.get(slug=slug)
    for name, value in fields.items():
        setattr(config, name, value)
    config.save()
    return config


def stored_key(slug):
    with connection.cursor() as cursor:
        cursor.execute("SELECT api_key FROM providers_providerconfig WHERE slug = %s", [slug])
        return cursor.fetchone()[0]


def key_sent(upstream):
    headers = upstream.sent[-1].headers
    return headers["authorization"] or headers["api-key"] or headers["x-goog-api-key"] or headers["x-api-key"]


@pytest.mark.django_db
def test_every_provider_has_a_row():
    assert set(ProviderConfig.objects.values_list("slug", flat=True)) == PROVIDERS.keys()


@pytest.mark.parametrize("slug", PROVIDERS)
def test_saved_settings_take_precedence_over_the_environment(api, upstream, settings, slug):
    settings.PROVIDER_ENVIRONMENT[slug]["base_url"] = "http://127.0.0.1:1"
    save(slug, api_key=SECRET, base_url=upstream.url)
    upstream.will_answer(COMPLETIONS[slug])
    assert generate(api, slug).status_code == 200
    assert key_sent(upstream).removeprefix("Bearer ") == SECRET


@pytest.mark.parametrize("slug", PROVIDERS)
def test_missing_settings_come_from_the_environment(api, upstream, slug):
    save(slug, default_model="some-model")
    upstream.will_answer(COMPLETIONS[slug])
    assert generate(api, slug).status_code == 200


@pytest.mark.parametrize(
    ("slug", "base_url"),
    [
        ("openai", "https://api.openai.com/v1"),
        ("azure", ""),
        ("google", "https://generativelanguage.googleapis.com"),
        ("openrouter", "https://openrouter.ai/api/v1"),
        ("claude", "https://api.anthropic.com"),
        ("deepseek", "https://api.deepseek.com/v1"),
        ("xai", "https://api.x.ai/v1"),
        ("ollama", "http://127.0.0.1:11434"),
        ("local", ""),  # set by `serve` when it starts the bundled models
    ],
)
def test_the_default_base_url_is_the_vendors(settings, slug, base_url):
    settings.PROVIDER_ENVIRONMENT = {}
    assert settings_of(ProviderConfig(slug=slug)).base_url == base_url


@pytest.mark.parametrize(
    ("slug", "configured"),
    [
        *[(slug, False) for slug in ("openai", "azure", "google", "openrouter", "claude", "deepseek", "xai", "local")],
        ("ollama", True),  # needs no key
    ],
)
def test_without_keys_only_ollama_is_configured(settings, slug, configured):
    settings.PROVIDER_ENVIRONMENT = {}
    assert is_configured(ProviderConfig(slug=slug)) is configured


# The base URL

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


# The key


@pytest.mark.parametrize("key", [f" {SECRET}", f"{SECRET}\n", f"\t{SECRET}\r\n"])
def test_white_space_around_a_key_is_removed(api, upstream, settings, key):
    settings.PROVIDER_ENVIRONMENT["openai"]["api_key"] = key
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    assert key_sent(upstream) == f"Bearer {SECRET}"


@pytest.mark.parametrize("slug", ["openai", "azure", "google", "claude"])
@pytest.mark.parametrize("key", ["sk-schlüssel", "sk-a\nHost: evil.example", "sk-a\x00b", "•••••••"])
def test_an_invalid_key_is_not_sent(api, upstream, settings, slug, key):
    settings.PROVIDER_ENVIRONMENT[slug]["api_key"] = key
    answer = generate(api, slug)
    assert (answer.status_code, answer.json()["code"]) == (503, "invalid_api_key")
    assert key not in answer.text
    assert upstream.sent == []


@pytest.mark.parametrize("slug", PROVIDERS)
def test_the_sdks_environment_variables_are_ignored(api, upstream, monkeypatch, slug):
    for name, value in {
        "OPENAI_ORG_ID": "org-of-openai",
        "OPENAI_PROJECT_ID": "project-of-openai",
        "OPENAI_BASE_URL": "http://127.0.0.1:1",
        "OPENAI_API_VERSION": "1999-01-01",
        "AZURE_OPENAI_AD_TOKEN": "token-of-azure",
        "ANTHROPIC_AUTH_TOKEN": "token-of-anthropic",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
        "GOOGLE_CLOUD_PROJECT": "project-of-google",
    }.items():
        monkeypatch.setenv(name, value)
    upstream.will_answer(COMPLETIONS[slug])
    assert generate(api, slug).status_code == 200
    sent = str(upstream.sent[0].headers) + upstream.sent[0].target
    assert "-of-azure" not in sent
    assert "-of-anthropic" not in sent
    assert "-of-google" not in sent
    assert "1999" not in sent
    assert ("-of-openai" in sent) is (slug == "openai")


def test_a_proxy_in_the_environment_is_not_used_for_loopback(api, upstream, monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    upstream.will_answer(CHAT_COMPLETION)
    assert generate(api, "ollama").status_code == 200


# When changes apply


def test_a_changed_key_applies_to_the_next_call(run_on_one_loop, upstream):
    async def calls(client):
        keys = []
        for key in ("sk-one-0123456789", "sk-two-0123456789", ""):
            await sync_to_async(save)("openai", api_key=key)
            upstream.will_answer(CHAT_COMPLETION)
            await client.post("/generate", json={"provider": "openai", "model": "m", "messages": HI})
            keys.append(key_sent(upstream))
        return keys

    assert run_on_one_loop(calls) == [
        "Bearer sk-one-0123456789",
        "Bearer sk-two-0123456789",
        "Bearer sk-openai-0123456789",  # back to the environment's key
    ]


def test_connections_are_reused_between_calls(run_on_one_loop, upstream):
    """Also across providers on the same server, and after a key was changed."""

    async def calls(client):
        for slug in ["openai", "openai", "claude", "google", "azure", "google", "openai"]:
            upstream.will_answer(COMPLETIONS[slug])
            answer = await client.post("/generate", json={"provider": slug, "model": "m", "messages": HI})
            assert answer.status_code == 200
            await sync_to_async(save)("claude", api_key=SECRET)

    run_on_one_loop(calls)
    assert len(upstream.sent) == 7
    assert upstream.connections == 1


def test_a_closed_idle_connection_is_replaced(run_on_one_loop, upstream):
    body = json.dumps(CHAT_COMPLETION)

    async def calls(client):
        statuses = []
        for _ in range(3):
            upstream.will_send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
            answer = await client.post("/generate", json={"provider": "openai", "model": "m", "messages": HI})
            statuses.append(answer.status_code)
            await asyncio.sleep(0.02)
        return statuses

    assert run_on_one_loop(calls) == [200, 200, 200]
    assert len(upstream.sent) == 3


def test_calls_run_concurrently(run_on_one_loop, upstream, settings):
    settings.COMPLETION_TIMEOUT = 20
    slow = 30
    for _ in range(slow):
        upstream.will_stall()

    async def calls(client):
        body = {"provider": "openai", "model": "m", "messages": HI}
        waiting = [asyncio.create_task(client.post("/generate", json=body)) for _ in range(slow)]
        while len(upstream.sent) < slow:
            await asyncio.sleep(0.01)
        upstream.will_answer(CHAT_COMPLETION)
        answer = await client.post("/generate", json=body)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return answer.status_code

    assert run_on_one_loop(calls) == 200


# Encryption


def test_a_key_is_encrypted_in_its_column(api, upstream):
    config = save("openai", api_key=SECRET)
    assert SECRET not in stored_key("openai")
    assert stored_key("openai").startswith("gAAAA")  # a Fernet token
    assert ProviderConfig.objects.get(slug="openai").api_key == SECRET
    assert SECRET not in f"{config} {config!r} {settings_of(config)!r}"


@pytest.mark.django_db
def test_a_missing_key_is_stored_as_an_empty_string():
    save("openai", api_key="")
    assert stored_key("openai") == ""


def test_an_undecryptable_key_counts_as_missing_but_is_kept(api, upstream, settings):
    settings.PROVIDER_ENVIRONMENT["openai"]["api_key"] = ""
    save("openai", api_key=SECRET)
    kept = stored_key("openai")
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another one"
    save("openai", default_model="some-model")  # writes all fields, as the admin does
    assert stored_key("openai") == kept
    answer = generate(api)
    assert (answer.status_code, answer.json()["code"]) == (503, "missing_api_key")
    settings.SECRET_KEY = old
    save("openai", default_model="")  # invalidates the cached row, which was decrypted with the other key
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    assert key_sent(upstream) == f"Bearer {SECRET}"


def test_an_undecryptable_key_falls_back_to_the_environments(api, upstream, settings):
    save("openai", api_key=SECRET)
    settings.SECRET_KEY = "another one"
    upstream.will_answer(CHAT_COMPLETION)
    generate(api)
    assert key_sent(upstream) == "Bearer sk-openai-0123456789"


@pytest.mark.django_db
def test_after_rotate_secrets_the_old_encryption_key_is_not_needed(settings, capsys):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.PUFFER_ENCRYPTION_KEYS = [old]
    save("openai", api_key=SECRET)
    before = stored_key("openai")
    settings.PUFFER_ENCRYPTION_KEYS = [new, old]
    call_command("rotate_secrets")
    assert "Encrypted 1 secret " in capsys.readouterr().out
    assert stored_key("openai") != before
    settings.PUFFER_ENCRYPTION_KEYS = [new]
    assert ProviderConfig.objects.get(slug="openai").api_key == SECRET
    settings.PUFFER_ENCRYPTION_KEYS = [old]
    assert ProviderConfig.objects.get(slug="openai").api_key == ""


@pytest.mark.django_db
def test_rotate_secrets_keeps_and_reports_undecryptable_secrets(settings):
    save("openai", api_key=SECRET)
    settings.SECRET_KEY = "another one"
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    save("claude", api_key="sk-ant-saved")
    lost, found = stored_key("openai"), stored_key("claude")
    with pytest.raises(CommandError, match="Left 1 secret unchanged"):
        call_command("rotate_secrets")
    assert stored_key("openai") == lost
    assert stored_key("claude") != found


@pytest.mark.django_db
def test_secrets_saved_before_setting_encryption_keys_stay_readable(settings):
    save("openai", api_key=SECRET)
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert ProviderConfig.objects.get(slug="openai").api_key == SECRET
    call_command("rotate_secrets")
    settings.SECRET_KEY = "another one"
    assert ProviderConfig.objects.get(slug="openai").api_key == SECRET


# Listing models


@async_to_sync
async def models_of(slug):
    try:
        provider = adapter_for(slug, Capability.COMPLETION, settings_of(ProviderConfig(slug=slug)))
        return await provider.list_models()
    finally:
        await close_clients()
        await asyncio.sleep(0)


OPENAI_LIST = {"object": "list", "data": [{"id": "b", "object": "model"}, {"id": "a", "object": "model"}]}


@pytest.mark.parametrize(
    ("slug", "target", "answer"),
    [
        ("openai", "/v1/models", OPENAI_LIST),
        ("azure", "/openai/models?api-version=2025-01-01-preview", OPENAI_LIST),
        ("google", "/v1beta/models?pageSize=1000", {"models": [{"name": "models/b"}, {"name": "models/a"}]}),
        ("openrouter", "/api/v1/models", OPENAI_LIST),
        ("claude", "/v1/models?limit=1000", {"data": [{"type": "model", "id": "b"}, {"id": "a"}], "has_more": False}),
        ("deepseek", "/v1/models", OPENAI_LIST),
        ("xai", "/v1/models", OPENAI_LIST),
        ("ollama", "/v1/models", OPENAI_LIST),
        ("local", "/v1/models", OPENAI_LIST),
    ],
)
def test_available_models_are_listed(upstream, slug, target, answer):
    upstream.will_answer(answer)
    assert models_of(slug) == ["a", "b"]
    (request,) = upstream.sent
    assert (request.method, request.target) == ("GET", target)


def test_all_pages_of_a_list_of_models_are_read(upstream):
    upstream.will_answer({"models": [{"name": "models/a"}], "nextPageToken": "more"})
    upstream.will_answer({"models": [{"name": "models/b"}]})
    assert models_of("google") == ["a", "b"]
    assert upstream.sent[1].query["pageToken"] == ["more"]


@pytest.mark.parametrize("slug", ["openai", "google", "claude"])
@pytest.mark.parametrize(
    ("status", "body", "ours"),
    [(401, {"error": {"message": "No."}}, 502), (200, b"<html>", 502), (200, {"data": 7}, 502)],
)
def test_failures_of_listing_models(upstream, slug, status, body, ours):
    upstream.will_answer({"models": 7} if slug == "google" and body == {"data": 7} else body, status)
    with pytest.raises(ApiError) as failure:
        models_of(slug)
    assert failure.value.status == ours
