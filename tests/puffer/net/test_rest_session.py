"""RestSession, our HTTP client for other servers, against a real server that misbehaves."""

import gzip
import threading
import time

import numpy as np
import pytest
from django.core.exceptions import ValidationError

from puffer.net.addresses import may_connect, validate_base_url
from puffer.net.rest_session import Interrupted, NoAnswer, RestSession
from tests.support.upstream import closed_port, full_backlog

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server(loopback_server):
    loopback_server.forget()
    return loopback_server


@pytest.fixture
def session(server):
    return RestSession(f"{server.url}/base/", {"api-key": KEY}, 10)


def dripping(head, piece, pieces, pause):
    """Return a behavior that sends `head`, then `pieces` times the piece, each after a pause of `pause` seconds."""

    def behave(connection):
        connection.write(head)
        for _ in range(pieces):
            time.sleep(pause)
            try:
                connection.write(piece)
            except OSError:  # the client has disconnected
                break
        connection.close_connection = True

    return behave


def test_a_call_and_its_answer(server, session):
    server.will_answer({"ok": True, "text": "ü"}, 201, {"X-Request-Id": "7"})
    answer = session.call("POST", "/a/b?c=d", {"text": "ü", "vector": np.array([0.5, 1e-7], np.float32)})
    assert (answer.status, answer.json(), answer.headers["x-request-id"]) == (201, {"ok": True, "text": "ü"}, "7")
    sent = server.sent[0]
    assert (sent.method, sent.target) == ("POST", "/base/a/b?c=d")
    assert sent.json == {"text": "ü", "vector": [0.5, 1e-7]}
    assert sent.headers["api-key"] == KEY
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["User-Agent"] == "puffer"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_methods_and_parameters(server, session, method):
    server.will_answer({})
    session.call(method, "/x", params={"ids": ["a b", "ü"], "limit": 3})
    assert server.sent[0].method == method
    assert server.sent[0].query == {"ids": ["a b", "ü"], "limit": ["3"]}
    assert "Content-Type" not in server.sent[0].headers


def test_connections_are_reused_but_cookies_are_dropped(server, session):
    for _ in range(3):
        server.will_answer({}, headers={"Set-Cookie": "session=1; Path=/"})
        session.call("GET", "/x")
    assert server.connections == 1
    assert not [sent for sent in server.sent if "Cookie" in sent.headers]


def test_several_threads_share_a_session(server, session):
    server.serves("/base/x", {"ok": True})
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(session.call("GET", "/x").status)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 12


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server, session, status):
    server.will_answer({}, status, {"Location": f"{server.url}/elsewhere"})
    assert session.call("GET", "/x").status == status
    assert len(server.sent) == 1


def test_an_endless_redirect_body_times_out(server):
    session = RestSession(server.url, {}, 0.5)
    head = b"HTTP/1.1 302 Found\r\nLocation: /y\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.queue.append(dripping(head, b"1\r\nx\r\n", 40, 0.1))
    start = time.monotonic()
    with pytest.raises(NoAnswer):
        session.call("GET", "/x")
    assert time.monotonic() - start < 3.5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500, 501, 504])
def test_statuses_that_are_not_retried(server, session, status):
    server.will_answer({"error": "no"}, status)
    assert session.call("GET", "/x").status == status
    assert len(server.sent) == 1


@pytest.mark.parametrize("status", [429, 502, 503])
def test_statuses_that_are_retried(server, session, status):
    server.will_answer({}, status)
    server.will_answer({"ok": True})
    assert session.call("POST", "/x", {"a": 1}).json() == {"ok": True}
    assert [sent.json for sent in server.sent] == [{"a": 1}] * 2


def test_the_answer_of_the_fourth_attempt_is_returned(server, session):
    for attempt in range(4):
        server.will_answer({"try": attempt}, 503)
    answer = session.call("GET", "/x")
    assert (answer.status, answer.json()) == (503, {"try": 3})


def test_non_idempotent_calls_are_not_retried(server, session):
    server.will_answer({}, 503)
    assert session.call("POST", "/x", {}, idempotent=False).status == 503
    server.will_hang_up()
    with pytest.raises(Interrupted):
        session.call("POST", "/x", {}, idempotent=False)
    assert len(server.sent) == 2


LONG_AGO = "Sun, 01 Jan 2023 00:00:00 GMT"
IN_FAR_FUTURE = "Sat, 01 Jan 2050 00:00:00 GMT"


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [("0", 0.0), ("1", 1.0), (LONG_AGO, 0.0), ("soon", 0.0), ("-1", 0.0), ("1.5", 0.0), ("", 0.0)],
)
def test_short_retry_after_waits_are_observed(server, session, retry_after, waited):
    server.will_answer({}, 429, {"Retry-After": retry_after})
    server.will_answer({"ok": True})
    start = time.monotonic()
    assert session.call("GET", "/x").status == 200
    assert waited <= time.monotonic() - start < waited + 5


@pytest.mark.parametrize("retry_after", ["21", "3600", IN_FAR_FUTURE, "9" * 400])
def test_long_retry_after_waits_are_not_observed(server, session, retry_after):
    server.will_answer({}, 429, {"Retry-After": retry_after})
    assert session.call("GET", "/x").status == 429
    assert len(server.sent) == 1


def test_a_wait_beyond_the_timeout_is_not_observed(server):
    session = RestSession(server.url, {}, 2)
    server.will_answer({}, 429, {"Retry-After": "3"})
    start = time.monotonic()
    assert session.call("GET", "/x").status == 429
    assert time.monotonic() - start < 2.5


TRUNCATED_ANSWERS = [
    b"",  # closed without an answer
    b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"hal',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"hal\r\n',
]


@pytest.mark.parametrize("truncated", TRUNCATED_ANSWERS)
def test_a_broken_connection_is_retried(server, session, truncated):
    server.will_send(truncated)
    server.will_answer({"ok": True})
    assert session.call("GET", "/x").json() == {"ok": True}
    assert len(server.sent) == 2


def test_a_connection_that_always_breaks_raises_interrupted(server, session):
    for truncated in TRUNCATED_ANSWERS:
        server.will_send(truncated)
    with pytest.raises(Interrupted) as raised:
        session.call("GET", "/x")
    assert not raised.value.timed_out
    assert len(server.sent) == 4


NOT_HTTP = [
    b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    b"HTTP/1.1 two-hundred OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nno gzip!",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


@pytest.mark.parametrize("raw", NOT_HTTP)
def test_invalid_http_raises_no_answer(server, session, raw):
    server.will_send(raw)
    with pytest.raises(NoAnswer):
        session.call("GET", "/x", idempotent=False)


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b'{"half":', b"\xff\xfe", b"NaN"])
def test_reading_invalid_json_raises_no_answer(server, session, body):
    server.will_answer(body)
    answer = session.call("GET", "/x")
    assert answer.body == body
    with pytest.raises(NoAnswer, match="not JSON"):
        answer.json()


def test_a_compressed_answer(server, session):
    server.will_answer(gzip.compress(b'{"ok": true}'), headers={"Content-Encoding": "gzip"})
    assert session.call("GET", "/x").json() == {"ok": True}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"x" * 100_001, {}),
        (gzip.compress(b"x" * 50_000_000), {"Content-Encoding": "gzip"}),  # 50 KB on the wire
    ],
)
def test_an_answer_over_the_size_limit_is_refused(server, session, settings, body, headers):
    settings.MAX_ANSWER_BYTES = 100_000
    server.will_answer(body, headers=headers)
    with pytest.raises(NoAnswer, match="larger than 100000 bytes"):
        session.call("GET", "/x")
    assert len(server.sent) == 1


def test_an_answer_of_the_maximum_size_is_returned(server, session, settings):
    settings.MAX_ANSWER_BYTES = 100_000
    server.will_answer(b"x" * 100_000)
    assert len(session.call("GET", "/x").body) == 100_000


@pytest.mark.parametrize("after", [b"", b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":'])
def test_a_silent_server_times_out(server, after):
    session = RestSession(server.url, {}, 0.5)
    server.will_stall(after)
    start = time.monotonic()
    with pytest.raises(NoAnswer) as raised:
        session.call("GET", "/x")
    assert raised.value.timed_out
    assert 0.4 < time.monotonic() - start < 5
    assert server.client_hung_up.wait(5)
    assert len(server.sent) == 1


@pytest.mark.parametrize(
    ("head", "piece"),
    [(b"Content-Length: 1000\r\n\r\n", b"x"), (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), (b"\r\n", b"x")],
)
def test_an_endless_answer_times_out(server, head, piece):
    session = RestSession(server.url, {}, 0.5)
    server.queue.append(dripping(b"HTTP/1.1 200 OK\r\n" + head, piece, 40, 0.1))
    start = time.monotonic()
    with pytest.raises(NoAnswer) as raised:
        session.call("GET", "/x")
    assert raised.value.timed_out
    assert time.monotonic() - start < 3.5


def test_an_unreachable_server_raises_no_answer(settings):
    with closed_port() as url, pytest.raises(NoAnswer, match=r"^cannot be reached\.$") as raised:
        RestSession(url, {}, 10).call("GET", "/x")
    assert not raised.value.timed_out
    with pytest.raises(NoAnswer, match="cannot be reached"):
        RestSession("http://nowhere.invalid", {}, 10).call("GET", "/x")
    settings.CONNECT_TIMEOUT = 0.3
    with full_backlog() as url, pytest.raises(NoAnswer) as raised:
        RestSession(url, {}, 10).call("GET", "/x")
    assert raised.value.timed_out


def test_a_server_without_tls_raises_no_answer(server):
    server.will_send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(NoAnswer):
        RestSession(server.url.replace("http:", "https:"), {}, 5).call("GET", "/x")


def test_errors_contain_no_secrets(server):
    session = RestSession(server.url, {"api-key": KEY}, 0.5)
    for misbehave in (server.will_hang_up, server.will_stall, lambda: server.will_send(NOT_HTTP[0])):
        misbehave()
        with pytest.raises(NoAnswer) as raised:
            session.call("GET", "/x?secret=1", {"secret": 1}, idempotent=False)
        assert "secret" not in str(raised.value)
        assert server.url not in str(raised.value)
        server.forget()


def test_credentials_in_a_netrc_are_not_sent(server, session, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.will_answer({})
    session.call("GET", "/x")
    assert "Authorization" not in server.sent[0].headers


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1", "https://8.8.8.8", "http://localhost:6333", "http://127.0.0.1:8000/x",
        "https://127.0.0.1", "http://[::1]:6333", "https://qdrant.internal:6333", "http://allowed.example", "http://10.1.2.3",
    ],
)  # fmt: skip
def test_base_urls_that_are_allowed(url, settings):
    settings.PRIVATE_HOST_ALLOWLIST = ["allowed.example", "10.1.2.3"]
    validate_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com", "http://10.0.0.1", "https://10.0.0.1", "https://192.168.1.1:6333", "https://172.16.0.9",
        "https://169.254.169.254/latest", "https://[fe80::1]", "https://[fd00::1]", "https://[::ffff:10.0.0.1]",
        "https://0.0.0.0", "http://0.0.0.0", "https://100.64.0.1", "https://[64:ff9b::a00:1]", "https://[2002:a00:1::]",
        "ftp://example.com", "file:///etc/passwd", "example.com", "https://", "", "https://user:pass@example.com",
        "https://example.com/?key=1", "https://example.com/#x", "https://example.com:99999", "https://[::1",
    ],
)  # fmt: skip
def test_base_urls_that_are_refused(url):
    with pytest.raises(ValidationError):
        validate_base_url(url)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True), ("2606:4700:4700::1111", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.31.255.255", False), ("192.168.0.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("198.18.0.1", False), ("::1", False), ("::", False), ("fe80::1", False),
        ("fc00::1", False), ("ff02::1", False), ("::ffff:127.0.0.1", False), ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("2002:808:808::", True),
    ],
)  # fmt: skip
def test_private_addresses_need_an_entry_in_the_allowlist(address, allowed, settings):
    assert may_connect("host.example", 443, address) is allowed
    settings.PRIVATE_HOST_ALLOWLIST = ["host.example"]
    assert may_connect("host.example", 443, address)
