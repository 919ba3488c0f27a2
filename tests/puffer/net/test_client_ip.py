"""The client's address behind proxies."""

import pytest
from django.core.checks import run_checks
from django.test import RequestFactory

from puffer.net.client_ip import client_ip


@pytest.mark.parametrize(
    ("proxies", "forwarded", "remote", "expected"),
    [
        (0, None, "10.0.0.9", "10.0.0.9"),
        (0, "1.2.3.4", "10.0.0.9", "10.0.0.9"),  # any client can send the header
        (1, "1.2.3.4", "10.0.0.9", "1.2.3.4"),
        (1, "6.6.6.6, 1.2.3.4", "10.0.0.9", "1.2.3.4"),  # entries left of our proxy's entry can be forged
        (2, "6.6.6.6, 1.2.3.4, 10.0.0.8", "10.0.0.9", "1.2.3.4"),
        (3, "1.2.3.4", "10.0.0.9", "1.2.3.4"),
        (1, None, "10.0.0.9", "10.0.0.9"),
        (1, " , ", "10.0.0.9", "10.0.0.9"),
        (1, "nonsense", "10.0.0.9", ""),
        (1, "1.2.3.4:80", "10.0.0.9", ""),
        (1, "2001:DB8::1", "10.0.0.9", "2001:db8::1"),
        (0, None, "testclient", ""),
        (0, None, "", ""),
    ],
)
def test_client_ip(settings, proxies, forwarded, remote, expected):
    settings.TRUSTED_PROXY_COUNT = proxies
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    assert client_ip(RequestFactory().get("/", REMOTE_ADDR=remote, **headers)) == expected


@pytest.mark.parametrize(
    ("public_url", "proxies", "warnings"),
    [
        ("https://ai.example.com", 0, ["puffer.W002"]),
        ("https://ai.example.com", 1, []),
        ("http://ai.example.com", 0, []),
        ("", 0, []),
    ],
)
def test_a_proxy_that_is_not_counted_is_reported(settings, public_url, proxies, warnings):
    settings.PUBLIC_URL, settings.TRUSTED_PROXY_COUNT = public_url, proxies
    assert [warning.id for warning in run_checks() if warning.id == "puffer.W002"] == warnings
