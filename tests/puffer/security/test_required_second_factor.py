"""REQUIRE_SECOND_FACTOR: users without a second factor set it up before anything else."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from puffer.models import ApiKey
from puffer.security.authenticator import AuthenticatorApp
from tests.support.admin.accounts import PASSWORD, member
from tests.support.admin.rows_of_models import url_of

pytestmark = pytest.mark.django_db
SETUP = reverse("admin:auth_user_second_factor")


@pytest.fixture
def client(settings) -> Client:
    settings.REQUIRE_SECOND_FACTOR = True
    client = Client()
    client.force_login(User.objects.create_superuser("owner", password=PASSWORD))
    return client


@pytest.mark.parametrize(
    "path", ["/admin/", url_of(ApiKey, "add"), reverse("admin:auth_user_changelist"), "/admin/password_change/"]
)
def test_every_page_leads_to_the_setup(client, path):
    for answer in (client.get(path), client.post(path, {"name": "shop", "scopes": ["chat"]})):
        assert (answer.status_code, answer["Location"]) == (302, SETUP)
    assert not ApiKey.objects.exists()


def test_the_setup_and_signing_out_are_open(client):
    assert "This installation requires two-factor authentication" in client.get(SETUP).text
    assert client.post("/admin/logout/").status_code == 200
    assert client.get("/admin/")["Location"].startswith("/admin/login/")


def test_with_a_second_factor_all_pages_are_open(client):
    AuthenticatorApp.objects.create(user=User.objects.get(), name="app", confirmed=False)
    assert client.get("/admin/").status_code == 302
    AuthenticatorApp.objects.update(confirmed=True)
    assert client.get("/admin/").status_code == 200
    AuthenticatorApp.objects.all().delete()  # an owner has turned it off for them
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize("role", ["Editor", "Viewer"])
def test_it_applies_to_every_role(settings, role):
    settings.REQUIRE_SECOND_FACTOR = True
    client = Client()
    client.force_login(member(role))
    assert client.get("/admin/")["Location"] == SETUP


def test_pages_outside_the_admin_are_not_concerned(client):
    assert client.get("/embed.js").status_code == 200


def test_without_the_setting_it_is_optional(client, settings):
    settings.REQUIRE_SECOND_FACTOR = False
    assert client.get("/admin/").status_code == 200
