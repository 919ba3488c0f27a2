"""Providers in the admin: saving credentials, testing the connection, refreshing the list of models."""

import asyncio
import html
import json
import re
import threading
import time

import pytest
from asgiref.sync import sync_to_async
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from werkzeug import Request, Response

from logs.models import UsageEvent
from providers import check_connection as connection
from providers.models import ProviderConfig
from providers.registry import PROVIDERS
from providers.run_async import run_async
from puffer.api.errors import ApiError
from puffer.runtime.database_threads import admin_threads
from puffer.runtime.event_loop import set_server_loop

pytestmark = pytest.mark.django_db

SECRET = "sk-one-saved-before"
COMPLETION = {
    "choices": [{"message": {"content": "Hello <script>!"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}


@pytest.fixture
def openai(httpserver, settings) -> ProviderConfig:
    """Save a key and the URL of `httpserver` for OpenAI; no provider is configured by the environment."""
    settings.PROVIDER_ENVIRONMENT = {}
    config = ProviderConfig.objects.get(slug="openai")
    config.api_key, config.base_url, config.default_model = SECRET, httpserver.url_for("/v1"), "gpt-4o-mini"
    config.save()
    return config


def page_of(config: ProviderConfig) -> str:
    return reverse("admin:providers_providerconfig_change", args=[config.pk])


def save(client, config: ProviderConfig, **changes):
    """Post the page's form with these changes, as a browser does."""
    form = client.get(page_of(config)).context["adminform"].form
    data = {name: form[name].value() or "" for name in form.fields if name != "forget_api_key"}
    return client.post(page_of(config), data | changes)


def click_and_confirm(client, config: ProviderConfig, button: str) -> str:
    """Confirm the dialog of a button, and return the text of the page that follows."""
    url = reverse(f"admin:providers_providerconfig_{button}", args=[config.pk])
    assert "_form_submitted" in client.get(url).text
    answer = client.post(url, {"_form_submitted": "True"})
    assert answer["HX-Redirect"] == page_of(config)
    return html.unescape(re.sub(r"\s+", " ", client.get(answer["HX-Redirect"]).text))


def test_the_list_shows_the_source_of_each_key(admin_client, settings, openai):
    settings.PROVIDER_ENVIRONMENT = {"claude": {"api_key": "sk-ant-env"}}
    ProviderConfig.objects.filter(slug="google").update(api_key="")
    page = admin_client.get(reverse("admin:providers_providerconfig_changelist")).text
    rows = re.findall(r"<tr.*?field-label.*?</tr>", page, re.DOTALL)
    assert len(rows) == len(PROVIDERS)
    for label, state in {
        "OpenAI": "saved here",
        "Claude": "from the environment",
        "Google": "missing",
        "Ollama": "not needed",
    }.items():
        [row] = [row for row in rows if f">{label}<" in row]
        assert state in row
    assert "sk-ant-env" not in page


@pytest.mark.parametrize("slug", PROVIDERS)
def test_each_page_has_only_the_fields_that_its_provider_needs(admin_client, slug):
    config = ProviderConfig.objects.get(slug=slug)
    page = admin_client.get(page_of(config)).text
    assert ('name="api_version"' in page) == (slug == "azure")
    assert ('name="default_image_model"' in page) == ("image" in PROVIDERS[slug].capabilities)
    assert ('name="default_embedding_model"' in page) == ("embedding" in PROVIDERS[slug].capabilities)
    assert 'name="forget_api_key"' not in page  # no key is saved
    assert save(admin_client, config, base_url="https://proxy.example.com").status_code == 302


def test_a_saved_key_is_never_shown(admin_client, openai):
    assert SECRET not in admin_client.get(page_of(openai)).text
    wrong = save(admin_client, openai, api_key="sk-typed-now", base_url="no url")
    assert wrong.status_code == 200
    assert "sk-typed-now" not in wrong.text
    save(admin_client, openai, api_key="  sk-typed-now\n")
    openai.refresh_from_db()
    assert openai.api_key == "sk-typed-now"
    assert "sk-typed-now" not in str(LogEntry.objects.values_list())


def test_an_empty_key_field_keeps_the_key(admin_client, openai):
    save(admin_client, openai, default_model="gpt-4o")
    openai.refresh_from_db()
    assert (openai.api_key, openai.default_model) == (SECRET, "gpt-4o")
    assert "API key" not in LogEntry.objects.get().get_change_message()


def test_a_saved_key_can_be_deleted(admin_client, openai):
    both = save(admin_client, openai, forget_api_key="on", api_key="sk-new")
    assert "Enter a new key or delete the saved one, not both." in both.text
    openai.refresh_from_db()
    assert openai.api_key == SECRET
    save(admin_client, openai, forget_api_key="on")
    openai.refresh_from_db()
    assert openai.api_key == ""


@pytest.mark.parametrize("key", ["two words", "sk-\u2013dash", "sk-\u200b"])
def test_an_invalid_key_is_rejected(admin_client, openai, key):
    assert "The key contains invalid characters" in save(admin_client, openai, api_key=key).text
    openai.refresh_from_db()
    assert openai.api_key == SECRET


@pytest.mark.parametrize("url", ["http://10.0.0.5/v1", "ftp://x", "https://user:pw@example.com", "file:///etc/passwd"])
def test_invalid_base_urls_are_rejected(admin_client, openai, url):
    assert save(admin_client, openai, base_url=url).status_code == 200
    openai.refresh_from_db()
    assert openai.base_url != url


def test_a_pasted_address_is_saved_without_the_path_of_the_call(admin_client, openai):
    saved = save(admin_client, openai, api_key="sk-new", base_url="https://example.com/v1/chat/completions")
    openai.refresh_from_db()
    assert openai.base_url == "https://example.com/v1"
    assert "The base URL was saved as https://example.com/v1: " in admin_client.get(saved.url).text
    same = save(admin_client, openai, api_key="sk-new", base_url="https://example.com/v1/")
    assert "The base URL was saved as" not in admin_client.get(same.url).text


def test_the_target_uri_of_azure_brings_its_api_version(admin_client):
    azure = ProviderConfig.objects.get(slug="azure")
    uri = "https://shop.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    save(admin_client, azure, api_key="azure-key", base_url=uri)
    azure.refresh_from_db()
    assert (azure.base_url, azure.api_version) == ("https://shop.openai.azure.com", "2024-10-21")


def test_a_new_base_url_needs_the_saved_key_again(admin_client, openai):
    kept = openai.base_url
    refused = save(admin_client, openai, base_url="https://elsewhere.example/v1")
    assert "Enter the key again" in refused.text
    openai.refresh_from_db()
    assert (openai.base_url, openai.api_key) == (kept, SECRET)
    assert save(admin_client, openai, base_url="https://elsewhere.example/v1", api_key="sk-new").status_code == 302


def test_a_new_base_url_needs_the_environments_key_again(admin_client, openai, settings):
    settings.PROVIDER_ENVIRONMENT = {"openai": {"api_key": "sk-env"}}
    refused = save(admin_client, openai, base_url="https://elsewhere.example/v1", forget_api_key="on")
    assert "Enter the key again" in refused.text
    openai.refresh_from_db()
    assert openai.api_key == SECRET
    assert (
        save(admin_client, openai, base_url="", forget_api_key="on").status_code == 302
    )  # the default URL is the vendor's own


def test_an_unreadable_key_is_kept_until_it_is_replaced(admin_client, settings, openai):
    settings.PUFFER_ENCRYPTION_KEYS = lost = [Fernet.generate_key().decode()]
    openai.save()
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert "saved but unreadable" in admin_client.get(reverse("admin:providers_providerconfig_changelist")).text
    page = admin_client.get(page_of(openai)).text
    assert "No key in PUFFER_ENCRYPTION_KEYS can decrypt it" in page
    assert 'name="forget_api_key"' in page
    save(admin_client, openai, default_model="gpt-4o")
    settings.PUFFER_ENCRYPTION_KEYS = lost
    openai.refresh_from_db()
    assert (openai.api_key, openai.default_model) == (SECRET, "gpt-4o")


# Test connection


def test_a_successful_connection_test(admin_client, openai, httpserver):
    httpserver.expect_oneshot_request("/v1/chat/completions", method="POST").respond_with_json(COMPLETION)
    page = click_and_confirm(admin_client, openai, "test_connection")
    assert re.search(r"OpenAI answered in \d+ ms with gpt-4o-mini: Hello <script>!", page)
    request, _ = httpserver.log[0]
    assert request.headers["Authorization"] == f"Bearer {SECRET}"
    assert request.json["max_completion_tokens"] == 16
    event = UsageEvent.objects.get()
    assert (event.model, event.input_tokens, event.status) == ("gpt-4o-mini", 9, 200)


def test_the_answer_is_escaped(admin_client, openai, httpserver):
    httpserver.expect_request("/v1/chat/completions").respond_with_json(COMPLETION)
    url = reverse("admin:providers_providerconfig_test_connection", args=[openai.pk])
    admin_client.post(url, {"_form_submitted": "True"})
    assert "Hello &lt;script&gt;!" in admin_client.get(page_of(openai)).text


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            401,
            {"error": {"message": f"Incorrect API key provided: {SECRET}"}},
            "Incorrect API key provided: [redacted]",
        ),
        (404, {"error": {"message": "The model does not exist"}}, "The model does not exist"),
        (429, {"error": {"message": "Quota exceeded"}}, "Quota exceeded"),
        (500, {"error": {"message": "Oops"}}, "Oops"),
        (200, {"nonsense": 1}, "sent an answer that cannot be read"),
    ],
)
def test_the_providers_error_message_is_shown(admin_client, openai, httpserver, status, body, words):
    httpserver.expect_request("/v1/chat/completions").respond_with_json(body, status=status)
    page = click_and_confirm(admin_client, openai, "test_connection")
    assert "Connection failed: " in page
    assert words in page
    assert SECRET not in page


def test_reasoning_up_to_the_token_limit_counts_as_connected(admin_client, openai, httpserver):
    thinking = {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}
    httpserver.expect_request("/v1/chat/completions").respond_with_json(thinking)
    page = click_and_confirm(admin_client, openai, "test_connection")
    assert "Connected to OpenAI, and the key works." in page
    assert "It does not work" not in page


def test_an_unreachable_provider_is_reported(admin_client, openai):
    ProviderConfig.objects.filter(pk=openai.pk).update(base_url="http://127.0.0.1:1/v1")
    assert "OpenAI cannot be reached" in click_and_confirm(admin_client, openai, "test_connection")


def test_the_connection_test_times_out(admin_client, openai, httpserver, monkeypatch):
    monkeypatch.setattr(connection, "TRIAL_SECONDS", 0.2)

    def sleep(request: Request) -> Response:
        time.sleep(1)
        return Response(json.dumps(COMPLETION))

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(sleep)
    started = time.monotonic()
    assert "OpenAI did not answer within 0.2 seconds" in click_and_confirm(admin_client, openai, "test_connection")
    assert time.monotonic() - started < 0.9


@pytest.mark.parametrize(
    ("slug", "words"),
    [
        ("claude", "API key is missing for Claude"),
        ("azure", "API key is missing for Azure"),
        ("local", "The bundled model is not running"),
    ],
)
def test_a_provider_that_is_not_configured_is_not_called(admin_client, settings, slug, words):
    settings.PROVIDER_ENVIRONMENT = {}
    config = ProviderConfig.objects.get(slug=slug)
    assert words in click_and_confirm(admin_client, config, "test_connection")
    assert words in click_and_confirm(admin_client, config, "refresh_models")


def test_without_a_default_model_the_test_reads_the_list_of_models(admin_client, settings, httpserver):
    settings.PROVIDER_ENVIRONMENT = {"ollama": {"base_url": httpserver.url_for("")}}
    httpserver.expect_request("/v1/models").respond_with_json({"data": [{"id": "llama3.2"}]})
    page = click_and_confirm(admin_client, ProviderConfig.objects.get(slug="ollama"), "test_connection")
    assert "Connected to Ollama: 1 model found." in page


# Refresh model list


def test_the_list_of_models_is_saved_and_suggested(admin_client, openai, httpserver):
    models = {"data": [{"id": "gpt-4o"}, {"id": "<script>alert(1)</script>"}]}
    httpserver.expect_request("/v1/models").respond_with_json(models)
    assert "2 models found" in click_and_confirm(admin_client, openai, "refresh_models")
    openai.refresh_from_db()
    assert openai.known_models == ["<script>alert(1)</script>", "gpt-4o"]
    assert openai.known_models_at is not None
    page = admin_client.get(page_of(openai)).text
    assert '<datalist id="known-models">' in page
    assert '<option value="gpt-4o">' in page
    assert 'list="known-models"' in page
    assert "<script>alert(1)" not in page


def test_a_failed_refresh_keeps_the_old_list(admin_client, openai, httpserver):
    ProviderConfig.objects.filter(pk=openai.pk).update(known_models=["gpt-4o"])
    httpserver.expect_request("/v1/models").respond_with_json({"error": {"message": "No."}}, status=403)
    assert "The list could not be read: OpenAI API Error (HTTP 403): No." in click_and_confirm(
        admin_client, openai, "refresh_models"
    )
    openai.refresh_from_db()
    assert openai.known_models == ["gpt-4o"]


def test_calling_the_provider_needs_a_post(admin_client, openai, httpserver):
    for button in ("test_connection", "refresh_models"):
        admin_client.get(reverse(f"admin:providers_providerconfig_{button}", args=[openai.pk]))
    assert not httpserver.log


@pytest.mark.parametrize("pk", ["999", "x", "_"])
def test_an_unknown_provider_is_404(admin_client, pk):
    url = reverse("admin:providers_providerconfig_test_connection", args=[pk])
    assert admin_client.post(url, {"_form_submitted": "True"}).status_code == 404


# The event loop


def test_run_async_uses_the_servers_event_loop():
    """Tasks that outlive the view can still use the database after the view's thread is busy with other requests."""
    background_tasks: list[asyncio.Task[int]] = []
    view_is_done = threading.Event()

    async def run_after_the_view() -> int:
        while not view_is_done.is_set():
            await asyncio.sleep(0.01)
        return await sync_to_async(threading.get_ident)()

    async def work() -> tuple[asyncio.AbstractEventLoop, int]:
        background_tasks.append(asyncio.create_task(run_after_the_view()))
        return asyncio.get_running_loop(), await sync_to_async(threading.get_ident)()

    async def serve() -> None:
        set_server_loop(asyncio.get_running_loop())
        admin_threads.assign_one()
        loop, database_thread = await sync_to_async(lambda: run_async(work))()
        view_is_done.set()
        assert loop is asyncio.get_running_loop()
        assert database_thread != await sync_to_async(threading.get_ident)()  # the view's thread was busy
        assert await asyncio.wait_for(background_tasks[0], 5) == database_thread

    try:
        asyncio.run(serve())
    finally:
        set_server_loop(None)


def test_run_async_passes_errors_to_the_view():
    async def work() -> None:
        raise ApiError("No.")

    async def serve() -> None:
        set_server_loop(asyncio.get_running_loop())
        with pytest.raises(ApiError, match="No"):
            await sync_to_async(lambda: run_async(work))()

    try:
        asyncio.run(serve())
    finally:
        set_server_loop(None)
