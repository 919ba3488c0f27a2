"""A provider's key and base URL: where they come from, when changes apply, and how keys are encrypted."""

import asyncio
import json

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from providers.base import Capability
from providers.models import ProviderConfig
from providers.registry import PROVIDERS, adapter_for, close_clients, is_configured, settings_of
from puffer.api.errors import ApiError
from tests.support.providers.answers import CHAT_COMPLETION, COMPLETIONS
from tests.support.providers.saved import HI, generate, save

SECRET = "sk-saved-0123456789"


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
