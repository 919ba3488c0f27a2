"""RestSession: our calls of other servers over HTTP, against a real one that misbehaves in every way."""

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
    """Sends `head`, then a piece now and then."""

    def behave(connection):
        connection.write(head)
        for _ in range(pieces):
            time.sleep(pause)
            try:
                connection.write(piece)
            except OSError:  # the client has gone
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


def test_connections_are_kept_and_cookies_are_not(server, session):
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


def test_a_redirect_may_not_be_endless_either(server):
    session = RestSession(server.url, {}, 0.5)
    head = b"HTTP/1.1 302 Found\r\nLocation: /y\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.queue.append(dripping(head, b"1\r\nx\r\n", 40, 0.1))
    start = time.monotonic()
    with pytest.raises(NoAnswer):
        session.call("GET", "/x")
    assert time.monotonic() - start < 3.5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500, 501, 504])
def test_what_another_try_would_not_change_is_not_tried_again(server, session, status):
    server.will_answer({"error": "no"}, status)
    assert session.call("GET", "/x").status == status
    assert len(server.sent) == 1


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_server_is_asked_again(server, session, status):
    server.will_answer({}, status)
    server.will_answer({"ok": True})
    assert session.call("POST", "/x", {"a": 1}).json() == {"ok": True}
    assert [sent.json for sent in server.sent] == [{"a": 1}] * 2


def test_after_four_tries_its_last_answer_counts(server, session):
    for at in range(4):
        server.will_answer({"try": at}, 503)
    answer = session.call("GET", "/x")
    assert (answer.status, answer.json()) == (503, {"try": 3})


def test_what_must_not_happen_twice_is_tried_once(server, session):
    server.will_answer({}, 503)
    assert session.call("POST", "/x", {}, idempotent=False).status == 503
    server.will_hang_up()
    with pytest.raises(Interrupted):
        session.call("POST", "/x", {}, idempotent=False)
    assert len(server.sent) == 2


LONG_AGO = "Sun, 01 Jan 2023 00:00:00 GMT"
IN_FAR_FUTURE = "Sat, 01 Jan 2050 00:00:00 GMT"


@pytest.mark.parametrize(
    ("told", "waited"),
    [("0", 0.0), ("1", 1.0), (LONG_AGO, 0.0), ("soon", 0.0), ("-1", 0.0), ("1.5", 0.0), ("", 0.0)],
)
def test_the_wait_that_a_server_asks_for(server, session, told, waited):
    server.will_answer({}, 429, {"Retry-After": told})
    server.will_answer({"ok": True})
    start = time.monotonic()
    assert session.call("GET", "/x").status == 200
    assert waited <= time.monotonic() - start < waited + 5


@pytest.mark.parametrize("told", ["21", "3600", IN_FAR_FUTURE, "9" * 400])
def test_a_wait_that_is_too_long_is_left_to_the_caller(server, session, told):
    server.will_answer({}, 429, {"Retry-After": told})
    assert session.call("GET", "/x").status == 429
    assert len(server.sent) == 1


def test_there_is_no_wait_beyond_the_time_of_the_call(server):
    session = RestSession(server.url, {}, 2)
    server.will_answer({}, 429, {"Retry-After": "3"})
    start = time.monotonic()
    assert session.call("GET", "/x").status == 429
    assert time.monotonic() - start < 2.5


HALF_ANSWERS = [
    b"",  # closed without a word
    b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"hal',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"hal\r\n',
]


@pytest.mark.parametrize("half", HALF_ANSWERS)
def test_a_connection_that_breaks_is_made_again(server, session, half):
    server.will_send(half)
    server.will_answer({"ok": True})
    assert session.call("GET", "/x").json() == {"ok": True}
    assert len(server.sent) == 2


def test_one_that_always_breaks_is_no_answer(server, session):
    for half in HALF_ANSWERS:
        server.will_send(half)
    with pytest.raises(Interrupted) as raised:
        session.call("GET", "/x")
    assert not raised.value.timed_out
    assert len(server.sent) == 4


NO_HTTP = [
    b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    b"HTTP/1.1 two-hundred OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nno gzip!",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


@pytest.mark.parametrize("raw", NO_HTTP)
def test_what_is_no_http(server, session, raw):
    server.will_send(raw)
    with pytest.raises(NoAnswer):
        session.call("GET", "/x", idempotent=False)


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b'{"half":', b"\xff\xfe", b"NaN"])
def test_what_is_no_json(server, session, body):
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
def test_an_answer_that_is_too_large(server, session, settings, body, headers):
    settings.MAX_ANSWER_BYTES = 100_000
    server.will_answer(body, headers=headers)
    with pytest.raises(NoAnswer, match="larger than 100000 bytes"):
        session.call("GET", "/x")
    assert len(server.sent) == 1


def test_an_answer_just_as_large_as_allowed(server, session, settings):
    settings.MAX_ANSWER_BYTES = 100_000
    server.will_answer(b"x" * 100_000)
    assert len(session.call("GET", "/x").body) == 100_000


@pytest.mark.parametrize("after", [b"", b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":'])
def test_a_silent_server_is_given_up(server, after):
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
def test_one_that_never_ends_is_given_up_too(server, head, piece):
    session = RestSession(server.url, {}, 0.5)
    server.queue.append(dripping(b"HTTP/1.1 200 OK\r\n" + head, piece, 40, 0.1))
    start = time.monotonic()
    with pytest.raises(NoAnswer) as raised:
        session.call("GET", "/x")
    assert raised.value.timed_out
    assert time.monotonic() - start < 3.5


def test_one_that_cannot_be_reached(settings):
    with closed_port() as url, pytest.raises(NoAnswer, match=r"^cannot be reached\.$") as raised:
        RestSession(url, {}, 10).call("GET", "/x")
    assert not raised.value.timed_out
    with pytest.raises(NoAnswer, match="cannot be reached"):
        RestSession("http://nowhere.invalid", {}, 10).call("GET", "/x")
    settings.CONNECT_TIMEOUT = 0.3
    with full_backlog() as url, pytest.raises(NoAnswer) as raised:
        RestSession(url, {}, 10).call("GET", "/x")
    assert raised.value.timed_out


def test_one_that_speaks_no_tls(server):
    server.will_send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(NoAnswer):
        RestSession(server.url.replace("http:", "https:"), {}, 5).call("GET", "/x")


def test_no_error_holds_what_is_secret(server):
    session = RestSession(server.url, {"api-key": KEY}, 0.5)
    for misbehave in (server.will_hang_up, server.will_stall, lambda: server.will_send(NO_HTTP[0])):
        misbehave()
        with pytest.raises(NoAnswer) as raised:
            session.call("GET", "/x?secret=1", {"secret": 1}, idempotent=False)
        assert "secret" not in str(raised.value)
        assert server.url not in str(raised.value)
        server.forget()


def test_a_netrc_gives_no_credentials_away(server, session, tmp_path, monkeypatch):
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
def test_base_urls_that_are_not(url):
    with pytest.raises(ValidationError):
        validate_base_url(url)


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("8.8.8.8", True), ("2606:4700:4700::1111", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.31.255.255", False), ("192.168.0.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("198.18.0.1", False), ("::1", False), ("::", False), ("fe80::1", False),
        ("fc00::1", False), ("ff02::1", False), ("::ffff:127.0.0.1", False), ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("2002:808:808::", True),
    ],
)  # fmt: skip
def test_where_a_stranger_may_send_us(address, may, settings):
    assert may_connect("host.example", 443, address) is may
    settings.PRIVATE_HOST_ALLOWLIST = ["host.example"]
    assert may_connect("host.example", 443, address)
