"""Transport security with an https PUBLIC_URL: plain http is refused, browsers are told, cookies are bound."""

import json

import pytest
from django.test import Client

from tests.support.installation import Installation

HTTPS = {"X-Forwarded-Proto": "https"}
ANSWERED = 400  # the call has no parameters


@pytest.fixture
def https(settings):
    settings.HTTPS = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    return settings


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "http"}, {"X-Forwarded-For": "192.0.2.1"}])
def test_a_key_over_plain_http_is_refused(api, https, headers):
    for response in (
        api.post("/generate", json={}, headers=headers),
        api.get(f"/logs?aipkit_api_key={api.key}", key=None, headers=headers),
        api.get("/chatbots/1/embed-config", headers=headers),
    ):
        assert (response.status_code, response.json()["code"]) == (403, "rest_https_required")


def test_over_https_the_api_answers_and_sends_hsts(api, https):
    response = api.post("/generate", json={}, headers=HTTPS)
    assert response.status_code == ANSWERED
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_without_an_https_address_plain_http_is_answered(api):
    response = api.post("/generate", json={})
    assert response.status_code == ANSWERED
    assert "Strict-Transport-Security" not in response.headers


def test_health_checks_work_on_the_machine_itself(api, https, transactional_db):
    https.SECURE_SSL_REDIRECT = True
    checks = [api.get(f"http://testserver/health/{name}", key=None) for name in ("live", "ready")]
    assert [check.status_code for check in checks] == [200, 200]
    assert Client().get("/embed.js").status_code == 301


NAMES = ["HTTPS", "SESSION_COOKIE_NAME", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_NAME", "CSRF_COOKIE_SECURE"]
PLAIN = [False, "sessionid", False, "csrftoken", False]
BOUND = [True, "__Host-sessionid", True, "__Host-csrftoken", True]


@pytest.mark.parametrize(
    ("public_url", "expected"),
    [
        ("", PLAIN),
        ("http://ai.example.com", PLAIN),
        ("https://ai.example.com", BOUND),
        ("HTTPS://ai.example.com", BOUND),
    ],
)
def test_cookies_are_bound_to_the_host_and_to_https(tmp_path, public_url, expected):
    installation = Installation(tmp_path, "sqlite://:memory:", {"PUBLIC_URL": public_url})
    code = f"import json; from django.conf import settings; print(json.dumps([getattr(settings, n) for n in {NAMES}]))"
    assert json.loads(installation.python(code)) == expected
