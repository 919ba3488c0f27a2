"""Two-factor authentication: enabling it, signing in with app and recovery codes, disabling it."""

import re
from base64 import b32decode, b32encode
from time import time

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django_otp.oath import TOTP

from puffer.security.authenticator import AuthenticatorApp
from tests.support.admin.accounts import LIMIT, PASSWORD, sign_in

pytestmark = pytest.mark.django_db
PAGE = "/admin/auth/user/second-factor/"


class App:
    """An authenticator app with the key from the page."""

    def __init__(self, key: str) -> None:
        self.totp = TOTP(b32decode(key))

    def code(self, steps: int = 0) -> str:
        self.totp.time = time() + 30 * steps
        return f"{self.totp.token():06}"


def scan_key(client: Client) -> App:
    page = client.get(PAGE)
    assert "no-store" in page["Cache-Control"]
    assert "<svg" in page.text
    [key] = re.findall(r'<code id="key">([A-Z2-7 ]+)</code>', page.text)
    return App(key.replace(" ", ""))


def enable(client: Client) -> tuple[App, list[str]]:
    app = scan_key(client)
    page = client.post(PAGE, {"password": PASSWORD, "code": app.code(-1)})
    codes = re.search(r'<pre id="recovery-codes"[^>]*>(.*?)</pre>', page.text, re.DOTALL)
    return app, codes[1].split()


def sign_in_with_code(code: str | None = None, password: str = PASSWORD, **request):
    """Sign in as the owner with a password and, unless it is None, a code."""
    form = {"username": "owner", "password": password} | ({} if code is None else {"code": code})
    return Client().post("/admin/login/", form, **request)


def test_without_a_second_factor_no_code_is_required(owner):
    assert 'name="code"' not in Client().get("/admin/login/").text
    assert sign_in(PASSWORD).status_code == 302


def test_with_a_second_factor_the_password_is_not_enough(client):
    app, codes = enable(client)
    assert len(set(codes)) == 10
    assert 'name="code"' in Client().get("/admin/login/").text
    for wrong in (None, "", "000000", "x" * 40, codes[0] + "x"):
        assert sign_in_with_code(wrong).status_code != 302, wrong
        AuthenticatorApp.objects.update(throttling_failure_count=0)
    assert sign_in_with_code(app.code(), REMOTE_ADDR="192.0.2.99").status_code == 302


def test_a_code_works_once(client):
    app, codes = enable(client)
    for code in (app.code(), codes[0]):
        assert sign_in_with_code(code).status_code == 302
        assert sign_in_with_code(code).status_code == 200
        AuthenticatorApp.objects.update(throttling_failure_count=0)
    spaced = f"{codes[1][:4]} {codes[1][4:]}".upper()
    assert sign_in_with_code(spaced).status_code == 302


def test_other_users_sign_in_without_a_code(client):
    User.objects.create_superuser("colleague", password=PASSWORD)
    enable(client)
    assert sign_in(PASSWORD, username="colleague").status_code == 302


def test_another_users_code_is_refused(client):
    colleague = User.objects.create_superuser("colleague", password=PASSWORD)
    other = Client()
    other.force_login(colleague)
    enable(client)
    app, codes = enable(other)
    assert sign_in_with_code(app.code()).status_code == 200
    assert sign_in_with_code(codes[0]).status_code == 200


def test_wrong_codes_lock_the_account_like_wrong_passwords(client):
    enable(client)
    assert [sign_in_with_code("000000").status_code for _ in range(LIMIT)] == [200] * (LIMIT - 1) + [429]


def test_a_wrong_password_is_refused_before_the_code_is_checked(client):
    app, _ = enable(client)
    code = app.code()
    page = sign_in_with_code(code, password="wrong")
    assert "The code is missing or wrong" not in page.text
    assert sign_in_with_code(code).status_code == 302  # the code was not used up


@pytest.mark.parametrize(("password", "steps"), [("wrong", 0), ("", 0), (PASSWORD, 50)])
def test_enabling_requires_password_and_code(client, password, steps):
    app = scan_key(client)
    client.post(PAGE, {"password": password, "code": app.code(steps)})
    assert not AuthenticatorApp.objects.filter(confirmed=True).exists()
    assert sign_in(PASSWORD).status_code == 302


def test_the_key_is_shown_only_until_it_is_used(client):
    first, second = scan_key(client), scan_key(client)
    assert first.totp.key == second.totp.key
    _, codes = enable(client)
    page = client.get(PAGE).text
    assert 'id="key"' not in page
    assert not any(code in page for code in codes)
    assert "Recovery codes left: 10" in page


def test_two_tabs_that_open_the_page_at_once_show_one_key(client):
    """Each may have made an app: the page still opens, and only the app whose key was shown counts afterwards."""
    owner = User.objects.get(username="owner")
    for _ in range(2):
        AuthenticatorApp.objects.create(user=owner, name="app", confirmed=False)
    app, _ = enable(client)
    assert AuthenticatorApp.objects.get().base32_key == b32encode(app.totp.key).decode()
    assert sign_in_with_code(app.code()).status_code == 302


def test_disabling_requires_the_password(client):
    enable(client)
    client.post(PAGE, {"password": "wrong"})
    assert AuthenticatorApp.objects.exists()
    assert client.post(PAGE, {"password": PASSWORD}).status_code == 302
    assert not AuthenticatorApp.objects.exists()
    assert sign_in(PASSWORD).status_code == 302


def test_an_owner_can_remove_the_second_factor_of_a_user(client, admin_client):
    enable(client)
    form = {"action": "remove_second_factor", "_selected_action": [User.objects.get(username="owner").pk]}
    admin_client.post(reverse("admin:auth_user_changelist"), form)
    assert sign_in(PASSWORD).status_code == 302
    logged = LogEntry.objects.filter(change_message__startswith="Two-factor").order_by("pk")
    assert list(logged.values_list("change_message", flat=True)) == [
        "Two-factor authentication turned on.",
        "Two-factor authentication turned off.",
    ]


def test_guessing_the_password_in_an_open_session_locks_the_account(client):
    enable(client)
    assert [client.post(PAGE, {"password": "guess"}).status_code for _ in range(LIMIT)][-1] == 429
