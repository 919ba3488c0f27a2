"""Signing in: lockout by username and address, the end of sessions, the records of sign-ins."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import requests
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from puffer.security import sign_in_records
from puffer.security.admin_sessions import Session
from tests.support.admin.accounts import LIMIT, LOGIN, PASSWORD, sign_in
from tests.support.installation import serving


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


def guess(count: int, username: str = "owner-{}", address: str = "192.0.2.7") -> int:
    """Return the status of the last guess. `{}` is a different number each time."""
    return [
        sign_in("wrong", username=username.format(number), REMOTE_ADDR=address.format(number)).status_code
        for number in range(1, count + 1)
    ][-1]


def test_a_network_of_ipv6_is_one_client(owner):
    assert guess(LIMIT - 1, "owner", "2001:db8:1:2:{}::7") == 200
    assert guess(1, "owner", "2001:db8:1:2:ffff::1") == 429
    assert sign_in(PASSWORD, REMOTE_ADDR="2001:db8:1:2::5").status_code == 429
    assert sign_in(PASSWORD, REMOTE_ADDR="2001:db8:1:3::5").status_code == 302


def test_an_address_that_tries_many_names_is_locked_out(owner):
    assert guess(4 * LIMIT - 1) == 200
    assert guess(1, "another") == 429
    assert sign_in(PASSWORD).status_code == 429
    assert sign_in(PASSWORD, REMOTE_ADDR="192.0.2.8").status_code == 302


def test_colleagues_can_share_an_address(owner):
    for name in ("ann", "ben"):
        User.objects.create_superuser(name, password=PASSWORD)
        assert guess(LIMIT - 1, name) == 200
    assert sign_in(PASSWORD, username="ann").status_code == 302
    assert sign_in(PASSWORD).status_code == 302


def test_a_name_that_is_guessed_from_everywhere_leaves_strangers_one_guess(owner):
    """Its user gets in from where they have signed in before, and from elsewhere with the right password at once."""
    sign_in(PASSWORD, REMOTE_ADDR="198.51.100.1")
    assert guess(10 * LIMIT, "owner", "192.0.2.{}") == 429
    assert guess(1, "owner", "203.0.113.5") == 429
    assert sign_in(PASSWORD, REMOTE_ADDR="203.0.113.5").status_code == 429
    assert sign_in(PASSWORD, REMOTE_ADDR="203.0.113.6").status_code == 302
    assert guess(LIMIT - 1, "owner", "198.51.100.1") == 200
    assert sign_in(PASSWORD, REMOTE_ADDR="198.51.100.1").status_code == 302


def test_the_records_that_strangers_leave_are_deleted(owner):
    guess(LIMIT, "{}")
    recent = AccessFailureLog.objects.count()
    old = timezone.now() - timedelta(days=200)
    for model in (AccessFailureLog, AccessLog, AccessAttempt):
        row = model(username="old", ip_address="192.0.2.9", user_agent="x", path_info="/")
        row.__dict__ |= {"failures_since_start": 1} if model is AccessAttempt else {}
        row.save()
        model.objects.filter(pk=row.pk).update(attempt_time=old)
    Session.objects.create(session_key="old", session_data="", expire_date=old)
    AccessFailureLog.objects.bulk_create(
        AccessFailureLog(username=str(n), ip_address="192.0.2.9", user_agent="x", path_info="/") for n in range(12_500)
    )
    while sign_in_records.run_due():
        pass
    assert AccessFailureLog.objects.count() == sign_in_records.MAX_FAILURES
    assert not AccessFailureLog.objects.filter(username="old").exists()
    assert (AccessLog.objects.count(), Session.objects.count()) == (0, 0)
    assert AccessAttempt.objects.count() == recent


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


@pytest.mark.slow
def test_public_pages_do_not_wait_for_sign_ins(tmp_path, upstream):
    """Anybody can send guesses, and each hashes a password."""
    with serving(tmp_path, upstream) as server:

        def guess_on(number: int) -> list[int]:
            form = {"username": f"name{number}", "password": "wrong", "csrfmiddlewaretoken": "a" * 32}
            headers = {"Referer": server.url + LOGIN, "Cookie": f"csrftoken={'a' * 32}"}
            return [
                requests.post(server.url + LOGIN, data=form, headers=headers, timeout=60).status_code for _ in range(6)
            ]

        with ThreadPoolExecutor(24) as pool:
            guesses = [pool.submit(guess_on, number) for number in range(24)]
            waits = []
            while not all(guess.done() for guess in guesses):
                started = time.monotonic()
                for path in ("/embed.js", "/health/live"):
                    assert requests.get(server.url + path, timeout=30).status_code == 200
                waits.append(time.monotonic() - started)
        statuses = Counter(status for guess in guesses for status in guess.result())
    assert max(waits) < 3
    assert statuses[429] > statuses[200]
    assert set(statuses) <= {200, 429, 503}
