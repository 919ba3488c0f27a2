"""Signing in: lockout by username and address, the end of sessions, the records of sign-ins."""

from datetime import timedelta

import pytest
import requests
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.support.accounts import LIMIT, LOGIN, PASSWORD, sign_in
from tests.support.installation import serving


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_superuser("owner", password=PASSWORD)


def sign_in_wrongly(times: int = LIMIT, **request) -> list[int]:
    return [sign_in("wrong", **request).status_code for _ in range(times)]


def test_too_many_wrong_passwords_lock_out_even_the_right_one(owner):
    assert sign_in_wrongly(LIMIT - 1) == [200] * (LIMIT - 1)
    assert sign_in_wrongly(2) == [429, 429]
    refused = sign_in(PASSWORD)
    assert refused.status_code == 429
    assert "Try again in 15 minutes" in refused.text
    assert refused["Retry-After"] == "900"
    assert "sessionid" not in refused.cookies


def test_a_successful_sign_in_resets_the_count(owner):
    for _ in range(3):
        assert sign_in_wrongly(LIMIT - 1)[-1] == 200
        assert sign_in(PASSWORD).status_code == 302


@pytest.mark.parametrize(
    ("other", "status"),
    [
        ({"REMOTE_ADDR": "192.0.2.8"}, 302),
        ({"REMOTE_ADDR": "2001:db8::7"}, 302),
        ({"username": "colleague"}, 302),
        ({"HTTP_USER_AGENT": "another browser"}, 429),
        ({"HTTP_X_FORWARDED_FOR": "192.0.2.8"}, 429),  # any client can send the header
        ({"HTTP_X_REAL_IP": "192.0.2.8", "HTTP_FORWARDED": "for=192.0.2.8"}, 429),
    ],
)
def test_the_lockout_applies_to_username_and_address_together(owner, other, status):
    User.objects.create_superuser("colleague", password=PASSWORD)
    sign_in_wrongly()
    assert sign_in(PASSWORD, **other).status_code == status


def test_behind_a_proxy_the_address_added_by_the_proxy_counts(owner, settings):
    settings.TRUSTED_PROXY_COUNT = 1
    for number in range(LIMIT):  # a new forged entry each time, left of the proxy's entry
        last = sign_in("wrong", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=f"198.51.100.{number}, 192.0.2.7")
    assert last.status_code == 429
    response = sign_in(PASSWORD, REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="192.0.2.7, 192.0.2.9")
    assert response.status_code == 302


def test_failures_without_an_address_are_counted(owner):
    assert sign_in_wrongly(REMOTE_ADDR="")[-1] == 429


def test_unknown_usernames_are_locked_out_the_same_way(owner):
    pages = [[sign_in("wrong", username=name) for _ in range(LIMIT)][-1] for name in ("owner", "nobody")]
    assert pages[0].status_code == pages[1].status_code == 429
    assert pages[0].text == pages[1].text


def test_the_lockout_expires_and_is_not_extended_by_further_attempts(owner):
    sign_in_wrongly()
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=14))
    assert sign_in_wrongly(3) == [429] * 3
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert sign_in(PASSWORD).status_code == 302


def test_an_owner_can_unlock_an_account(owner, admin_client):
    sign_in_wrongly()
    attempt = AccessAttempt.objects.get(username="owner")
    form = {"action": "unlock", "_selected_action": [attempt.pk]}
    page = admin_client.post(reverse("admin:axes_accessattempt_changelist"), form, follow=True)
    assert "Unlocked: owner." in page.text
    assert sign_in(PASSWORD).status_code == 302


def test_the_documented_command_unlocks_an_account(owner):
    sign_in_wrongly()
    call_command("axes_reset_username", "owner")
    assert sign_in(PASSWORD).status_code == 302


def test_sign_ins_are_recorded_without_passwords(owner):
    sign_in_wrongly(1, QUERY_STRING="next=/admin/")
    sign_in(PASSWORD)
    failure, success = AccessFailureLog.objects.get(), AccessLog.objects.get()
    assert (failure.username, failure.ip_address) == (success.username, success.ip_address) == ("owner", "192.0.2.7")
    sign_in_wrongly(1)
    assert "wrong" not in str(AccessAttempt.objects.values())


def test_the_session_cookie_lasts_12_hours(owner, settings):
    signed_in = sign_in(PASSWORD)
    cookie = signed_in.cookies["sessionid"]
    assert int(cookie["max-age"]) == 12 * 3600
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_a_new_password_ends_the_other_sessions(owner):
    this_browser, other_browser = Client(), Client()
    for client in (this_browser, other_browser):
        sign_in(PASSWORD, client=client)
    new = "staple battery 9"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert this_browser.post(reverse("admin:password_change"), form).status_code == 302
    assert this_browser.get("/admin/").status_code == 200
    assert other_browser.get("/admin/").status_code == 302
    assert sign_in(PASSWORD).status_code == 200
    assert sign_in(new).status_code == 302


@pytest.mark.parametrize("weak", ["password", "owner1234", "short1"])
def test_weak_passwords_are_refused(owner, weak):
    client = Client()
    client.force_login(owner)
    form = {"old_password": PASSWORD, "new_password1": weak, "new_password2": weak}
    owner.username = "owner1234"
    owner.save()
    assert client.post(reverse("admin:password_change"), form).status_code == 200
    owner.refresh_from_db()
    assert owner.check_password(PASSWORD)


@pytest.mark.slow
def test_lockout_on_a_real_server(tmp_path, upstream):
    """Check that both workers share the count of failures."""
    with serving(tmp_path, upstream) as server:
        server.python(
            "from django.contrib.auth import get_user_model;"
            f"get_user_model().objects.create_superuser('owner', password='{PASSWORD}')"
        )

        def post(password: str, number: int = 0) -> int:
            session = requests.Session()
            session.get(server.url + LOGIN, timeout=10)
            form = {"username": "owner", "password": password, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
            forged = {"X-Forwarded-For": f"198.51.100.{number}", "Referer": server.url + LOGIN}
            return session.post(
                server.url + LOGIN, data=form, headers=forged, timeout=10, allow_redirects=False
            ).status_code

        assert post(PASSWORD) == 302
        assert [post("wrong", number) for number in range(LIMIT)] == [200] * (LIMIT - 1) + [429]
        assert post(PASSWORD) == 429
        server.manage("axes_reset_username", "owner")
        assert post(PASSWORD) == 302
