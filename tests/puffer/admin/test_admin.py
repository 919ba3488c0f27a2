"""The admin as a whole, and its pages for API keys, users and groups."""

import json
import re

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot
from logs.models import Conversation, ModelPrice, UsageEvent, Webhook, WebhookDelivery
from providers.models import ProviderConfig
from puffer.models import ApiKey, Scope, digest
from tests.support.admin.rows_of_models import NASTY, ROWS, SAVED_SECRET, a_provider, make_bot, make_key, url_of
from vectorstores.models import Collection, Document, SourcePage, StoreConfig

pytestmark = pytest.mark.django_db


RECORDS = [LogEntry, AccessAttempt, AccessFailureLog, AccessLog, WebhookDelivery]
CANNOT_BE_ADDED = {Conversation, UsageEvent, ProviderConfig, StoreConfig, Collection, Document, SourcePage, *RECORDS}


def count_queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200, url
    return len(captured)


def test_every_model_of_the_admin_is_tested_here():
    assert ROWS.keys() == admin.site._registry.keys()


@pytest.mark.parametrize("model", ROWS)
def test_a_list_of_30_rows_takes_as_many_queries_as_a_list_of_1(admin_client, model):
    ROWS[model](0)
    count_queries(admin_client, url_of(model, "changelist"))  # fills Django's caches
    with_one = count_queries(admin_client, url_of(model, "changelist"))
    for number in range(1, 30):
        ROWS[model](number)
    assert count_queries(admin_client, url_of(model, "changelist")) == with_one


@pytest.mark.parametrize("model", ROWS)
def test_pages_open_and_escape_user_input(admin_client, model):
    row = ROWS[model](0)
    add = admin_client.get(url_of(model, "add"))
    assert add.status_code == (403 if model in CANNOT_BE_ADDED else 200)
    for url in (
        url_of(model, "changelist"),
        url_of(model, "changelist") + "?q=alert",
        url_of(model, "change", row.pk),
        url_of(model, "history", row.pk),
    ):
        page = admin_client.get(url)
        assert page.status_code == 200, url
        assert NASTY not in page.text, url
        assert SAVED_SECRET not in page.text, url


@pytest.mark.parametrize("model", [Chatbot, Conversation, ModelPrice, Webhook, User, Group])
def test_these_models_can_be_deleted(admin_client, model):
    row = ROWS[model](0)
    page = admin_client.get(url_of(model, "delete", row.pk))
    assert page.status_code == 200
    assert NASTY not in page.text
    admin_client.post(url_of(model, "delete", row.pk), {"post": "yes"})
    assert not model.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", [ApiKey, UsageEvent, ProviderConfig, StoreConfig, *RECORDS])
def test_these_models_cannot_be_deleted(admin_client, model):
    row = ROWS[model](0)
    assert admin_client.post(url_of(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    admin_client.post(url_of(model, "changelist"), selected)
    assert model.objects.filter(pk=row.pk).exists()


def test_the_start_page_and_the_menu(admin_client):
    page = admin_client.get(reverse("admin:index")).text
    for name in ("Chatbots", "Providers", "Conversations", "Usage", "Model prices", "API keys", "Users", "Groups"):
        assert name in page


# Permissions

CUSTOM_PAGES = [
    ("get", "admin:chatbots_chatbot_import_from_json", False),
    ("post", "admin:chatbots_chatbot_import_from_json", False),
    ("get", "admin:chatbots_chatbot_try_it", Chatbot),
    ("post", "admin:chatbots_chatbot_try_it", Chatbot),
    ("get", "admin:providers_providerconfig_test_connection", ProviderConfig),
    ("post", "admin:providers_providerconfig_test_connection", ProviderConfig),
    ("get", "admin:providers_providerconfig_refresh_models", ProviderConfig),
    ("post", "admin:providers_providerconfig_refresh_models", ProviderConfig),
]
BULK_ACTIONS = [
    (ApiKey, "revoke"),
    (Chatbot, "duplicate"),
    (Chatbot, "publish"),
    (Chatbot, "make_draft"),
    (Chatbot, "move_to_trash"),
    (Chatbot, "export_as_json"),
]


@pytest.fixture
def staff_client(client: Client) -> Client:
    """Return a client whose user may sign in to the admin but has no permissions."""
    client.force_login(User.objects.create(username="staff", is_staff=True))
    return client


@pytest.mark.parametrize(("method", "name", "model"), CUSTOM_PAGES)
def test_custom_pages_refuse_users_without_permission(staff_client, method, name, model):
    url = reverse(name, args=[ROWS[model](0).pk] if model else [])
    assert getattr(staff_client, method)(url, {"question": "Hi", "_form_submitted": "True"}).status_code == 403
    anonymous = getattr(Client(), method)(url)
    assert anonymous.status_code == 302
    assert anonymous["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize(("method", "name", "model"), CUSTOM_PAGES)
def test_custom_pages_require_a_csrf_token(admin_user, method, name, model):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    url = reverse(name, args=[ROWS[model](0).pk] if model else [])
    assert getattr(client, method)(url).status_code == (200 if method == "get" else 403)


@pytest.mark.parametrize(("model", "action"), BULK_ACTIONS)
def test_bulk_actions_refuse_users_without_permission(staff_client, model, action):
    row = ROWS[model](0)
    before = str(model.objects.filter(pk=row.pk).values().get())
    selected = {"action": action, "_selected_action": [row.pk], "confirmed": "yes"}
    assert staff_client.post(url_of(model, "changelist"), selected).status_code == 403
    assert str(model.objects.filter(pk=row.pk).values().get()) == before
    assert Client().post(url_of(model, "changelist"), selected).status_code == 302


def test_users_with_view_permission_can_neither_test_nor_import_nor_act(staff_client, django_user_model):
    staff = django_user_model.objects.get(username="staff")
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    bot, config, key = make_bot(0), a_provider(0), make_key(1)
    for model, row in ((Chatbot, bot), (ProviderConfig, config), (ApiKey, key)):
        page = staff_client.get(url_of(model, "change", row.pk))
        assert page.status_code == 200
        assert SAVED_SECRET not in page.text
        assert key.digest not in page.text
    for name, args in (
        ("admin:chatbots_chatbot_import_from_json", []),
        ("admin:chatbots_chatbot_try_it", [bot.pk]),
        ("admin:providers_providerconfig_test_connection", [config.pk]),
    ):
        assert staff_client.get(reverse(name, args=args)).status_code == 403
    for model, row, action in ((Chatbot, bot, "move_to_trash"), (ApiKey, key, "revoke")):
        staff_client.post(
            url_of(model, "changelist"), {"action": action, "_selected_action": [row.pk], "confirmed": "yes"}
        )
    bot.refresh_from_db()
    key.refresh_from_db()
    assert (bot.status, key.revoked_at) == ("published", None)


# API keys

NEW_KEY = {"name": "Website", "scopes": ["chat", "logs"], "expires_on": "2099-12-31"}


def test_a_new_key_is_shown_once_and_works(admin_client, api, bot):
    page = admin_client.post(url_of(ApiKey, "add"), {**NEW_KEY, "chatbots": [bot.pk]})
    assert page.status_code == 200  # not a redirect, which would have to carry the key
    [shown] = re.findall(r"puf_\w{49}", page.text)
    key = ApiKey.objects.get(name="Website")
    assert (key.digest, key.ending, key.scopes) == (digest(shown), shown[-4:], ["chat", "logs"])
    assert list(key.chatbots.all()) == [bot]
    assert "no-store" in page["Cache-Control"]
    assert shown not in str(admin_client.cookies)
    assert shown not in json.dumps(dict(admin_client.session))
    assert api.get("/logs", key=shown).status_code == 200
    assert shown not in str(LogEntry.objects.values_list())
    for url in (url_of(ApiKey, "changelist"), url_of(ApiKey, "change", key.pk), reverse("admin:index")):
        text = admin_client.get(url).text
        assert shown not in text
        assert key.digest not in text


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"scopes": []}, {"scopes": ["everything"]}, {"expires_on": "soon"}, {"name": "taken"}]
)
def test_an_invalid_form_creates_no_key(admin_client, wrong):
    ApiKey(name="taken", scopes=["chat"]).issue()
    page = admin_client.post(url_of(ApiKey, "add"), {**NEW_KEY, **wrong})
    assert "puf_" not in page.text
    assert ApiKey.objects.count() == 1


def test_the_models_of_a_key_can_be_edited(admin_client):
    key = make_key(0)
    url = url_of(ApiKey, "change", key.pk)
    admin_client.post(url, {**NEW_KEY, "allowed_models": "openai/gpt-4o-mini\r\n claude \r\n"})
    key.refresh_from_db()
    assert key.allowed_models == ["openai/gpt-4o-mini", "claude"]
    assert "is not a model" in admin_client.post(url, {**NEW_KEY, "allowed_models": "gpt-4o-mini"}).text
    admin_client.post(url, {**NEW_KEY, "allowed_models": ""})
    key.refresh_from_db()
    assert key.allowed_models == []


def test_editing_a_key_does_not_change_its_secret_part(admin_client):
    key = make_key(0)
    admin_client.post(url_of(ApiKey, "change", key.pk), {**NEW_KEY, "digest": "x", "ending": "x", "revoked_at": "x"})
    changed = ApiKey.objects.get()
    assert (changed.name, changed.scopes, str(changed.expires_on)) == ("Website", ["chat", "logs"], "2099-12-31")
    assert (changed.digest, changed.ending, changed.revoked_at) == (key.digest, key.ending, None)


def test_revoking_asks_for_confirmation(admin_client, api, api_key):
    selected = {"action": "revoke", "_selected_action": [api_key.pk]}
    question = admin_client.post(url_of(ApiKey, "changelist"), selected)
    assert "Revoke these keys?" in question.text
    assert api.get("/logs").status_code == 200
    admin_client.post(url_of(ApiKey, "changelist"), {**selected, "confirmed": "yes"})
    assert api.get("/logs").status_code in (401, 403)
    assert "revoked" in admin_client.get(url_of(ApiKey, "changelist")).text


def test_a_revoked_key_stays_revoked(admin_client):
    key = make_key(0)
    key.revoke()
    revoked_at = key.revoked_at
    page = admin_client.get(url_of(ApiKey, "change", key.pk))
    assert 'name="_save"' not in page.text
    assert admin_client.post(url_of(ApiKey, "change", key.pk), NEW_KEY).status_code == 403
    form = {"action": "revoke", "_selected_action": [key.pk], "confirmed": "yes"}
    assert "already revoked" in admin_client.post(url_of(ApiKey, "changelist"), form, follow=True).text
    key.refresh_from_db()
    assert key.revoked_at == revoked_at


def test_the_list_shows_the_state_of_each_key(admin_client):
    for name, values in {
        "valid": {},
        "old": {"expires_on": "2020-01-01"},
        "withdrawn": {"revoked_at": timezone.now()},
    }.items():
        ApiKey(name=name, scopes=list(Scope.values), **values).issue()
    page = admin_client.get(url_of(ApiKey, "changelist")).text
    for state in ("active", "expired", "revoked", "everything"):
        assert re.search(rf">\s*{state}\s*<", page), state


def test_a_user_can_be_added_with_a_password(admin_client):
    new = {"username": "new", "usable_password": "true", "password1": "a long one 5", "password2": "a long one 5"}
    admin_client.post(url_of(User, "add"), new)
    assert User.objects.get(username="new").check_password("a long one 5")
