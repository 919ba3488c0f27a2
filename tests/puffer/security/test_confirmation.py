"""The password is asked for again before keys, secrets and second factors are shown or changed."""

import time

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from chatbots.models import Chatbot
from logs.webhooks.models import Webhook
from providers.models import ProviderConfig
from puffer.models import ApiKey, Scope
from puffer.security.authenticator import AuthenticatorApp
from puffer.security.confirmation import CONFIRMED_AT, WINDOW
from tests.support.admin.accounts import LIMIT, PASSWORD
from tests.support.admin.rows_of_models import url_of

pytestmark = pytest.mark.django_db
CONFIRM = reverse("admin:auth_user_confirm_password")
ASKED = 'id="confirm-form"'
ROW = {Chatbot: {"name": "Shop"}, Webhook: {"name": "shop", "url": "https://shop.example/hook"}}
NEW_KEY = {"name": "shop", "scopes": ["chat"]}


def age(client: Client, seconds: int = WINDOW) -> None:
    """Make the password as old as `seconds`."""
    session = client.session
    session[CONFIRMED_AT] = int(time.time()) - seconds
    session.save()


def test_signing_in_counts_for_ten_minutes(client):
    age(client, WINDOW - 30)
    assert "puf_" in client.post(url_of(ApiKey, "add"), NEW_KEY).text
    age(client)
    assert ASKED in client.post(url_of(ApiKey, "add"), NEW_KEY | {"name": "other"}).text
    assert ApiKey.objects.count() == 1


def test_a_form_that_was_sent_is_kept_and_saved_with_the_password(client):
    age(client)
    page = client.post(url_of(ApiKey, "add"), NEW_KEY | {"scopes": ["chat", "logs"], "_save": ""})
    assert "no-store" in page["Cache-Control"]
    for name, value in (("name", "shop"), ("scopes", "chat"), ("scopes", "logs"), ("_save", "")):
        assert f'<input type="hidden" name="{name}" value="{value}">' in page.text
    again = NEW_KEY | {"scopes": ["chat", "logs"]}
    assert ASKED in client.post(url_of(ApiKey, "add"), again | {"confirm_password": "wrong"}).text
    assert "puf_" in client.post(url_of(ApiKey, "add"), again | {"confirm_password": PASSWORD}).text
    assert ApiKey.objects.get().scopes == ["chat", "logs"]
    assert "puf_" in client.post(url_of(ApiKey, "add"), NEW_KEY | {"name": "next"}).text  # not asked again


@pytest.mark.parametrize("stale", [True, False])
def test_nothing_is_changed_before_the_password(client, owner, stale):
    """Check each page that changes a key, a secret or a way to sign in."""
    key = ApiKey(name="shop", scopes=list(Scope.values))
    key.issue()
    openai = ProviderConfig.objects.get(slug="openai")
    colleague = User.objects.create_superuser("colleague", password=PASSWORD)
    AuthenticatorApp.objects.create(user=colleague, name="app")
    new = {"password1": "staple battery 9", "password2": "staple battery 9"}
    user = {"username": "mallory", "usable_password": "true"} | new
    calls = [
        (url_of(ApiKey, "change", key.pk), NEW_KEY | {"name": "renamed"}),
        (url_of(ApiKey, "changelist"), {"action": "revoke", "_selected_action": [key.pk], "confirmed": "yes"}),
        (url_of(ProviderConfig, "change", openai.pk), {"api_key": "sk-new"}),
        (url_of(User, "changelist"), {"action": "remove_second_factor", "_selected_action": [colleague.pk]}),
        (reverse("admin:auth_user_password_change", args=[colleague.pk]), new | {"usable_password": "true"}),
        (url_of(User, "add"), user),
    ]
    if stale:
        age(client)
    for path, form in calls:
        assert (ASKED in client.post(path, form).text) == stale, path
    colleague.refresh_from_db()
    key.refresh_from_db()
    openai.refresh_from_db()
    unchanged = [
        key.name == "shop",
        key.revoked_at is None,
        openai.api_key == "",
        AuthenticatorApp.objects.exists(),
        colleague.check_password(PASSWORD),
        not User.objects.filter(username="mallory").exists(),
    ]
    assert unchanged == [stale] * len(unchanged)


@pytest.mark.parametrize(("model", "field"), [(Chatbot, "identity_secret"), (Webhook, "secret")])
def test_secrets_are_shown_after_the_password(client, model, field):
    row = model.objects.create(**ROW[model])
    path = url_of(model, "change", row.pk)
    assert getattr(row, field) in client.get(path).text
    age(client)
    page = client.get(path).text
    assert getattr(row, field) not in page
    confirm = f"{CONFIRM}?next={path}"
    assert f'href="{confirm}"' in page.replace("%2F", "/")
    assert client.post(confirm, {"confirm_password": PASSWORD})["Location"] == path
    assert getattr(row, field) in client.get(path).text


@pytest.mark.parametrize(
    ("model", "field", "action"),
    [(Chatbot, "identity_secret", "renew_identity_secret"), (Webhook, "secret", "renew_secret")],
)
def test_secrets_are_renewed_after_the_password(client, model, field, action):
    row = model.objects.create(**ROW[model])
    before = getattr(row, field)
    path = url_of(model, "change", row.pk)
    renew = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{action}", args=[row.pk])
    age(client)
    headers = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{path}"}
    answer = client.post(renew, {"_form_submitted": "True"}, headers=headers)
    assert answer["HX-Redirect"].replace("%2F", "/") == f"{CONFIRM}?next={path}"
    row.refresh_from_db()
    assert getattr(row, field) == before
    client.post(CONFIRM, {"confirm_password": PASSWORD})
    assert client.post(renew, {"_form_submitted": "True"}, headers=headers)["HX-Redirect"] == path
    row.refresh_from_db()
    assert getattr(row, field) != before


@pytest.mark.parametrize(
    ("following", "target"),
    [
        ("/admin/puffer/apikey/", "/admin/puffer/apikey/"),
        ("", "/admin/"),
        ("https://evil.example/", "/admin/"),
        ("//evil.example/", "/admin/"),
        ("/\\evil.example/", "/admin/"),
        ("javascript:alert(1)", "/admin/"),
    ],
)
def test_the_page_goes_on_to_this_server_only(client, following, target):
    answer = client.post(
        reverse("admin:auth_user_confirm_password", query={"next": following}), {"confirm_password": PASSWORD}
    )
    assert answer["Location"] == target


def test_guessing_the_password_locks_the_user_out(client):
    age(client)
    statuses = [client.post(CONFIRM, {"confirm_password": "guess"}).status_code for _ in range(LIMIT)]
    assert statuses == [200] * (LIMIT - 1) + [429]
