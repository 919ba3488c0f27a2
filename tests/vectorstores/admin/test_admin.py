"""Vector stores in the admin: credentials, the connection test, trying a question, deleting documents."""

import re
import time

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from tests.support.knowledge.admin_pages import NASTY, SECRET, list_of, page_of, text_of
from vectorstores import check_connection as connection
from vectorstores.models import StoreConfig

pytestmark = pytest.mark.django_db


def save(client, config: StoreConfig, **changes):
    """Post the page's form with these changes, as a browser does."""
    form = client.get(page_of(config)).context["adminform"].form
    data = {name: form[name].value() or "" for name in form.fields if name != "forget_api_key"}
    return client.post(page_of(config), data | changes)


def run_connection_test(client, config: StoreConfig) -> str:
    """Confirm the dialog of “Test connection”, and return the text of the page that follows."""
    url = page_of(config, "test_connection")
    assert "_form_submitted" in client.get(url).text
    answer = client.post(url, {"_form_submitted": "True"})
    assert answer["HX-Redirect"] == page_of(config)
    page = client.get(answer["HX-Redirect"])
    assert NASTY not in page.text
    return text_of(page)


# Vector stores


def test_the_list_shows_the_source_of_each_key(admin_client, settings, qdrant):
    settings.VECTOR_STORE_ENVIRONMENT = {"chroma": {"api_key": "ck-of-the-environment"}}
    page = admin_client.get(list_of("storeconfig")).text
    rows = re.findall(r"<tr.*?field-label.*?</tr>", page, re.DOTALL)
    assert len(rows) == 3
    for label, state in {"Pinecone": "missing", "Qdrant": "saved here", "Chroma": "from the environment"}.items():
        [row] = [row for row in rows if f">{label}<" in row]
        assert state in row
    assert "https://api.pinecone.io" in page
    assert qdrant.base_url in page
    assert "ck-of-the-environment" not in page
    assert SECRET not in page


@pytest.mark.parametrize("slug", ["pinecone", "qdrant", "chroma"])
def test_only_chroma_has_a_tenant_and_a_database(admin_client, slug):
    config = StoreConfig.objects.get(slug=slug)
    page = admin_client.get(page_of(config)).text
    for name in ("tenant", "database"):
        assert (f'name="{name}"' in page) == (slug == "chroma")
    assert 'name="forget_api_key"' not in page  # no key is saved
    assert save(admin_client, config, base_url="https://store.example.com", api_key="k").status_code == 302


def test_a_saved_key_is_never_shown(admin_client, qdrant):
    assert SECRET not in admin_client.get(page_of(qdrant)).text
    wrong = save(admin_client, qdrant, api_key="qd-typed-now", base_url="no url")
    assert wrong.status_code == 200
    assert "qd-typed-now" not in wrong.text
    save(admin_client, qdrant, api_key="  qd-typed-now\n")
    qdrant.refresh_from_db()
    assert qdrant.api_key == "qd-typed-now"
    assert "qd-typed-now" not in str(LogEntry.objects.values_list())


def test_an_empty_key_field_keeps_the_key_and_the_checkbox_deletes_it(admin_client, qdrant):
    save(admin_client, qdrant)
    qdrant.refresh_from_db()
    assert qdrant.api_key == SECRET
    save(admin_client, qdrant, forget_api_key="on")
    qdrant.refresh_from_db()
    assert qdrant.api_key == ""


def test_a_new_base_url_needs_the_key_again(admin_client, qdrant):
    assert "Enter the key again" in save(admin_client, qdrant, base_url="https://elsewhere.example").text
    qdrant.refresh_from_db()
    assert qdrant.base_url.startswith("http://127.0.0.1:")
    assert save(admin_client, qdrant, base_url="https://elsewhere.example", api_key="qd-new").status_code == 302


def test_an_unreadable_key_is_reported(admin_client, settings, qdrant):
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    qdrant.save()
    settings.PUFFER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert "saved but unreadable" in admin_client.get(list_of("storeconfig")).text
    assert "No key in PUFFER_ENCRYPTION_KEYS can decrypt it" in admin_client.get(page_of(qdrant)).text


def test_stores_cannot_be_added_or_deleted(admin_client, qdrant):
    assert admin_client.get(reverse("admin:vectorstores_storeconfig_add")).status_code == 403
    assert admin_client.post(page_of(qdrant, "delete"), {"post": "yes"}).status_code == 403


# Test connection


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "Connected to Qdrant. It has no collections yet."),
        (["shop", NASTY], f"Connected to Qdrant. 2 collections: {NASTY}, shop."),
        (
            [f"c{n:02}" for n in range(12)],
            "12 collections: c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and 2 more.",
        ),
    ],
)
def test_a_successful_connection_test(admin_client, qdrant, qdrant_server, names, words):
    qdrant_server.serves("/collections", {"result": {"collections": [{"name": name} for name in names]}})
    assert words in run_connection_test(admin_client, qdrant)
    assert qdrant_server.sent[0].headers["api-key"] == SECRET


def test_tenant_and_database_are_percent_encoded(admin_client, upstream):
    chroma = StoreConfig.objects.get(slug="chroma")
    place = "/api/v2/tenants/acme%2F..%2Fx/databases/kb%3Fa"
    upstream.serves(f"{place}/collections?limit=200&offset=0", [])
    save(admin_client, chroma, base_url=upstream.url, tenant="acme/../x", database="kb?a")
    assert "Connected to Chroma. It has no collections yet." in run_connection_test(admin_client, chroma)


def test_the_stores_error_message_is_shown(admin_client, qdrant, qdrant_server):
    qdrant_server.serves("/collections", {"status": {"error": f"Key {SECRET} is wrong"}}, 403)
    page = run_connection_test(admin_client, qdrant)
    assert "Connection failed: Qdrant API Error (403): Key [redacted] is wrong" in page


def test_the_connection_test_times_out(admin_client, qdrant, qdrant_server, monkeypatch):
    monkeypatch.setattr(connection, "TRIAL_SECONDS", 0.2)
    qdrant_server.pages["/collections"] = lambda connection: time.sleep(1)
    started = time.monotonic()
    assert "Qdrant did not answer within 0.2 seconds" in run_connection_test(admin_client, qdrant)
    assert time.monotonic() - started < 0.9


@pytest.mark.parametrize(
    ("slug", "words"),
    [
        ("pinecone", "Pinecone API Key is required."),
        ("qdrant", "Qdrant's URL is required."),
        ("chroma", "Chroma's URL is required."),
    ],
)
def test_a_store_without_configuration_is_reported(admin_client, settings, slug, words):
    settings.VECTOR_STORE_ENVIRONMENT = {}
    config = StoreConfig.objects.get(slug=slug)
    assert f"No. {words}" in text_of(admin_client.get(page_of(config)))
    assert f"Connection failed: {words}" in run_connection_test(admin_client, config)


def test_the_connection_test_needs_a_post(admin_client, qdrant, qdrant_server):
    admin_client.get(page_of(qdrant, "test_connection"))
    assert not qdrant_server.sent
