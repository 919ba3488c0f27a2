"""The wait before a retry: our backoff, and a server's Retry-After."""

import pytest

from puffer.net import parse_retry_after, retry_after_headers
from puffer.runtime import backoff


def test_the_wait_grows_up_to_a_maximum():
    assert [backoff(failures, 10, 3600) for failures in (1, 2, 3, 9, 10, 5000)] == [10, 20, 40, 2560, 3600, 3600]
    assert [backoff(failures, 10, 600, factor=3) for failures in (1, 2, 3, 4, 5)] == [10, 30, 90, 270, 600]


def test_jitter_only_lengthens_the_wait():
    waits = {backoff(1, 1, 10, jitter=0.5) for _ in range(100)}
    assert len(waits) > 1
    assert all(1 <= wait <= 1.5 for wait in waits)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), (" 30 ", 30.0), ("Sun, 01 Jan 2023 00:00:00 GMT", 0.0), ("soon", None), ("-1", None), ("", None)],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize(
    ("status", "value", "is_passed_on"),
    [(429, "30", True), (503, "30", True), (500, "30", False), (429, "soon", False), (429, "9" * 50, False),
     (429, "Sun, 01 Jan 2023 00:00:00 GMT", True), (429, "30\r\nSet-Cookie: a=b", False)],
)  # fmt: skip
def test_a_valid_retry_after_is_passed_on(status, value, is_passed_on):
    assert retry_after_headers(status, value) == ({"Retry-After": value} if is_passed_on else {})
