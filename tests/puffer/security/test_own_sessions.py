"""A user's own sign-ins: the list, signing others out, and the notice of a new device or network."""

import pytest
from axes.models import AccessLog
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from puffer.security.admin_sessions import SEEN_EVERY, Session
from puffer.security.own_sessions import device
from tests.support.admin.accounts import PASSWORD, sign_in

pytestmark = pytest.mark.usefixtures("owner")
PAGE = reverse("admin:auth_user_own_sessions")
LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605 (KHTML, like Gecko) Version/18.5 Safari/604"
)
ANDROID = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/138.0 Safari/537.36 Edg/138.0"


def browser(user_agent: str = LINUX, address: str = "192.0.2.7", username: str = "owner") -> Client:
    client = Client()
    sign_in(PASSWORD, username, client, REMOTE_ADDR=address, HTTP_USER_AGENT=user_agent)
    return client


def messages() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (LINUX, "Firefox, Linux"),
        (IPHONE, "Safari, iPhone"),
        (ANDROID, "Chrome, Android"),
        (WINDOWS, "Edge, Windows"),
        ("curl/8.14.1", "curl/8.14.1"),
        ("", ""),
    ],
)
def test_devices_are_named_by_browser_and_system(user_agent, name):
    assert device(user_agent) == name


def test_users_see_their_own_sign_ins_only():
    User.objects.create_superuser("colleague", password=PASSWORD)
    here = browser()
    browser(IPHONE, "198.51.100.4")
    browser(WINDOWS, "203.0.113.9", "colleague")
    page = here.get(PAGE).text
    for shown in ("Firefox, Linux", "192.0.2.7", "this browser", "Safari, iPhone", "198.51.100.4"):
        assert shown in page
    assert "203.0.113.9" not in page


def test_a_lost_device_is_signed_out():
    here, lost, third = browser(), browser(IPHONE), browser(ANDROID)
    pk = next(session["pk"] for session in here.get(PAGE).context["sessions"] if session["device"] == "Safari, iPhone")
    here.post(PAGE, {"session": pk})
    assert [client.get("/admin/").status_code for client in (here, lost, third)] == [200, 302, 200]
    assert messages()[-1] == "Signed out: Safari, iPhone, 192.0.2.7."
    here.post(PAGE, {"session": "others"})
    assert [client.get("/admin/").status_code for client in (here, third)] == [200, 302]


def test_nobody_signs_out_somebody_else():
    User.objects.create_superuser("colleague", password=PASSWORD)
    here, colleague = browser(), browser(username="colleague")
    theirs = colleague.get(PAGE).context["sessions"][0]["pk"]
    here.post(PAGE, {"session": theirs})
    assert colleague.get("/admin/").status_code == 200


def test_sessions_of_before_a_new_password_are_not_listed(owner):
    here = browser()
    browser(IPHONE)
    new = "staple battery 9"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    here.post(reverse("admin:password_change"), form)
    assert len(here.get(PAGE).context["sessions"]) == 1


def test_the_time_of_the_last_request_is_noted_without_extending_the_session():
    here = browser()
    long_ago = timezone.now() - 2 * SEEN_EVERY
    Session.objects.update(last_seen_at=long_ago)
    expires = Session.objects.get().expire_date
    here.get("/admin/")
    session = Session.objects.get()
    assert session.last_seen_at > long_ago + SEEN_EVERY
    assert session.expire_date == expires


def test_new_devices_and_networks_are_in_the_audit_log():
    browser()
    assert messages() == []  # the first sign-in has nothing to compare with
    browser(LINUX.replace("140", "141"), "192.0.2.99")  # an update, and another address of the network
    assert messages() == []
    browser(IPHONE)
    browser(LINUX, "198.51.100.4")
    browser(LINUX, "198.51.100.5")
    assert messages() == [
        "Signed in from a new device or network: Safari, iPhone, 192.0.2.0.",
        "Signed in from a new device or network: Firefox, Linux, 198.51.100.0.",
    ]
    assert AccessLog.objects.count() == 5


def test_expired_sessions_are_deleted_at_the_next_sign_in():
    browser()
    Session.objects.update(expire_date=timezone.now() - SEEN_EVERY)
    browser()
    assert Session.objects.count() == 1
