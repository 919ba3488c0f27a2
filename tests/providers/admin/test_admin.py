"""Providers in the admin: saving credentials, testing the connection, reading the list of models."""

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
    """OpenAI with a saved key, played by `httpserver`; no provider is configured by the environment."""
    settings.PROVIDER_ENVIRONMENT = {}
    config = ProviderConfig.objects.get(slug="openai")
    config.api_key, config.base_url, config.default_model = SECRET, httpserver.url_for("/v1"), "gpt-4o-mini"
    config.save()
    return config


def page_of(config: ProviderConfig) -> str:
    return reverse("admin:providers_providerconfig_change", args=[config.pk])


def save(client, config: ProviderConfig, **changes):
    """Send the form as the browser does: with what the page showed, changed."""
    form = client.get(page_of(config)).context["adminform"].form
    data = {name: form[name].value() or "" for name in form.fields if name != "forget_api_key"}
    return client.post(page_of(config), data | changes)


def press(client, config: ProviderConfig, button: str) -> str:
    """Confirm the dialog behind a button; the text of the page to which it leads."""
    url = reverse(f"admin:providers_providerconfig_{button}", args=[config.pk])
    assert "_form_submitted" in client.get(url).text
    answer = client.post(url, {"_form_submitted": "True"})
    assert answer["HX-Redirect"] == page_of(config)
    return html.unescape(re.sub(r"\s+", " ", client.get(answer["HX-Redirect"]).text))


def test_every_provider_is_listed_with_where_its_key_comes_from(admin_client, settings, openai):
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
    assert 'name="forget_api_key"' not in page  # no such field
    assert save(admin_client, config, base_url="https://proxy.example.com").status_code == 302


def test_the_key_goes_in_and_never_comes_out(admin_client, openai):
    assert SECRET not in admin_client.get(page_of(openai)).text
    wrong = save(admin_client, openai, api_key="sk-typed-now", base_url="no url")
    assert wrong.status_code == 200
    assert "sk-typed-now" not in wrong.text
    save(admin_client, openai, api_key="  sk-typed-now\n")
    openai.refresh_from_db()
    assert openai.api_key == "sk-typed-now"
    assert "sk-typed-now" not in str(LogEntry.objects.values_list())


def test_an_empty_key_field_leaves_the_key(admin_client, openai):
    save(admin_client, openai, default_model="gpt-4o")
    openai.refresh_from_db()
    assert (openai.api_key, openai.default_model) == (SECRET, "gpt-4o")
    assert "API key" not in LogEntry.objects.get().get_change_message()


def test_a_key_can_be_forgotten(admin_client, openai):
    both = save(admin_client, openai, forget_api_key="on", api_key="sk-new")
    assert "Enter a new key or delete the saved one, not both." in both.text
    openai.refresh_from_db()
    assert openai.api_key == SECRET
    save(admin_client, openai, forget_api_key="on")
    openai.refresh_from_db()
    assert openai.api_key == ""


@pytest.mark.parametrize("key", ["two words", "sk-\u2013dash", "sk-\u200b"])
def test_what_can_be_no_key_is_refused(admin_client, openai, key):
    assert "The key contains invalid characters" in save(admin_client, openai, api_key=key).text
    openai.refresh_from_db()
    assert openai.api_key == SECRET


@pytest.mark.parametrize("url", ["http://10.0.0.5/v1", "ftp://x", "https://user:pw@example.com", "file:///etc/passwd"])
def test_base_urls_that_are_refused(admin_client, openai, url):
    assert save(admin_client, openai, base_url=url).status_code == 200
    openai.refresh_from_db()
    assert openai.base_url != url


def test_a_saved_key_does_not_move_to_another_address(admin_client, openai):
    kept = openai.base_url
    refused = save(admin_client, openai, base_url="https://elsewhere.example/v1")
    assert "Enter the key again" in refused.text
    openai.refresh_from_db()
    assert (openai.base_url, openai.api_key) == (kept, SECRET)
    assert save(admin_client, openai, base_url="https://elsewhere.example/v1", api_key="sk-new").status_code == 302


def test_nor_does_a_key_of_the_environment(admin_client, openai, settings):
    settings.PROVIDER_ENVIRONMENT = {"openai": {"api_key": "sk-env"}}
    refused = save(admin_client, openai, base_url="https://elsewhere.example/v1", forget_api_key="on")
    assert "Enter the key again" in refused.text
    openai.refresh_from_db()
    assert openai.api_key == SECRET
    assert save(admin_client, openai, base_url="", forget_api_key="on").status_code == 302  # to the vendor itself


def test_a_key_that_cannot_be_read_is_kept_until_it_is_replaced(admin_client, settings, openai):
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


def test_a_connection_that_works(admin_client, openai, httpserver):
    httpserver.expect_oneshot_request("/v1/chat/completions", method="POST").respond_with_json(COMPLETION)
    page = press(admin_client, openai, "test_connection")
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
def test_what_the_provider_says_is_shown(admin_client, openai, httpserver, status, body, words):
    httpserver.expect_request("/v1/chat/completions").respond_with_json(body, status=status)
    page = press(admin_client, openai, "test_connection")
    assert "Connection failed: " in page
    assert words in page
    assert SECRET not in page


def test_a_model_that_thinks_too_long_is_no_failure(admin_client, openai, httpserver):
    thinking = {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}
    httpserver.expect_request("/v1/chat/completions").respond_with_json(thinking)
    page = press(admin_client, openai, "test_connection")
    assert "Connected to OpenAI, and the key works." in page
    assert "It does not work" not in page


def test_nobody_listens(admin_client, openai):
    ProviderConfig.objects.filter(pk=openai.pk).update(base_url="http://127.0.0.1:1/v1")
    assert "OpenAI cannot be reached" in press(admin_client, openai, "test_connection")


def test_a_provider_that_is_slow_is_not_waited_for(admin_client, openai, httpserver, monkeypatch):
    monkeypatch.setattr(connection, "TRIAL_SECONDS", 0.2)

    def sleep(request: Request) -> Response:
        time.sleep(1)
        return Response(json.dumps(COMPLETION))

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(sleep)
    started = time.monotonic()
    assert "OpenAI did not answer within 0.2 seconds" in press(admin_client, openai, "test_connection")
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
    assert words in press(admin_client, config, "test_connection")
    assert words in press(admin_client, config, "refresh_models")


def test_without_a_default_model_the_list_of_models_is_the_test(admin_client, settings, httpserver):
    settings.PROVIDER_ENVIRONMENT = {"ollama": {"base_url": httpserver.url_for("")}}
    httpserver.expect_request("/v1/models").respond_with_json({"data": [{"id": "llama3.2"}]})
    page = press(admin_client, ProviderConfig.objects.get(slug="ollama"), "test_connection")
    assert "Connected to Ollama: 1 model found." in page


# Refresh model list


def test_the_list_of_models_is_kept_and_offered(admin_client, openai, httpserver):
    models = {"data": [{"id": "gpt-4o"}, {"id": "<script>alert(1)</script>"}]}
    httpserver.expect_request("/v1/models").respond_with_json(models)
    assert "2 models found" in press(admin_client, openai, "refresh_models")
    openai.refresh_from_db()
    assert openai.known_models == ["<script>alert(1)</script>", "gpt-4o"]
    assert openai.known_models_at is not None
    page = admin_client.get(page_of(openai)).text
    assert '<datalist id="known-models">' in page
    assert '<option value="gpt-4o">' in page
    assert 'list="known-models"' in page
    assert "<script>alert(1)" not in page


def test_a_list_that_cannot_be_read_leaves_the_old_one(admin_client, openai, httpserver):
    ProviderConfig.objects.filter(pk=openai.pk).update(known_models=["gpt-4o"])
    httpserver.expect_request("/v1/models").respond_with_json({"error": {"message": "No."}}, status=403)
    assert "The list could not be read: OpenAI API Error (HTTP 403): No." in press(
        admin_client, openai, "refresh_models"
    )
    openai.refresh_from_db()
    assert openai.known_models == ["gpt-4o"]


def test_a_get_request_calls_nobody(admin_client, openai, httpserver):
    for button in ("test_connection", "refresh_models"):
        admin_client.get(reverse(f"admin:providers_providerconfig_{button}", args=[openai.pk]))
    assert not httpserver.log


@pytest.mark.parametrize("pk", ["999", "x", "_"])
def test_a_provider_that_is_not_there(admin_client, pk):
    url = reverse("admin:providers_providerconfig_test_connection", args=[pk])
    assert admin_client.post(url, {"_form_submitted": "True"}).status_code == 404


# The event loop


def test_in_a_server_the_work_is_done_on_the_servers_own_loop():
    """What it leaves behind can still use the database when the view and its thread have moved on."""
    left_behind: list[asyncio.Task[int]] = []
    view_is_done = threading.Event()

    async def later() -> int:
        while not view_is_done.is_set():
            await asyncio.sleep(0.01)
        return await sync_to_async(threading.get_ident)()

    async def work() -> tuple[asyncio.AbstractEventLoop, int]:
        left_behind.append(asyncio.create_task(later()))
        return asyncio.get_running_loop(), await sync_to_async(threading.get_ident)()

    async def serve() -> None:
        set_server_loop(asyncio.get_running_loop())
        admin_threads.assign_one()
        loop, database_thread = await sync_to_async(lambda: run_async(work))()
        view_is_done.set()
        assert loop is asyncio.get_running_loop()
        assert database_thread != await sync_to_async(threading.get_ident)()  # that one was busy with the view
        assert await asyncio.wait_for(left_behind[0], 5) == database_thread

    try:
        asyncio.run(serve())
    finally:
        set_server_loop(None)


def test_in_a_server_an_error_reaches_the_view():
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
