"""Pages that a stranger may have named: fetched without being led into our own network."""

import gzip
import socket
from contextlib import suppress

import pytest

from puffer.net import guarded_fetch as web_pages
from puffer.net.guarded_fetch import fetch
from puffer.net.rest_session import NoAnswer
from tests.support.upstream import closed_port

HOST = "127.0.0.1"  # where the tests' own server is, which is as private as can be


@pytest.fixture
def server(loopback_server):
    loopback_server.forget()
    return loopback_server


@pytest.fixture
def allowed(settings):
    settings.PRIVATE_HOST_ALLOWLIST = [HOST]


def test_a_page(server, allowed):
    server.will_answer("Grüße".encode("latin-1"), headers={"Content-Type": 'Text/HTML; charset="ISO-8859-1"'})
    page = fetch(f"{server.url}/a?b=c")
    assert (page.url, page.status, page.media_type, page.charset) == (
        f"{server.url}/a?b=c", 200, "text/html", "cp1252",
    )  # fmt: skip
    assert page.body.decode(page.charset) == "Grüße"
    assert server.sent[0].target == "/a?b=c"


@pytest.mark.parametrize("status", [404, 500, 304])
def test_its_status_is_told(server, allowed, status):
    server.will_answer(b"", status)
    assert fetch(server.url).status == status


def test_a_private_address_is_refused_before_anything_is_sent(server):
    with pytest.raises(NoAnswer, match="no public address"):
        fetch(f"{server.url}/x")
    assert server.sent == []


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "127.0.0.1.", "[::ffff:127.0.0.1]"])
def test_other_names_of_it_too(server, host):
    """As a public name with a private address: what counts is whom we have reached."""
    with pytest.raises(NoAnswer):
        fetch(f"http://{host}:{server.server_port}/x")
    assert server.sent == []


def test_tls_is_no_way_around_it(server):
    with pytest.raises(NoAnswer, match="no public address"):
        fetch(f"https://127.0.0.1:{server.server_port}/x")
    assert server.sent == []


def test_a_private_host_may_be_allowed_with_one_port(server, settings):
    settings.PRIVATE_HOST_ALLOWLIST = [f"{HOST}:{server.server_port}"]
    server.will_answer(b"hello")
    assert fetch(server.url).body == b"hello"
    settings.PRIVATE_HOST_ALLOWLIST = [f"{HOST}:1"]
    with pytest.raises(NoAnswer, match="no public address"):
        fetch(server.url)


def test_redirects_are_followed(server, allowed):
    server.will_answer(b"", 302, {"Location": "/b/c"})
    server.will_answer(b"", 301, {"Location": "../d?e=f"})
    server.will_answer(b"found")
    page = fetch(f"{server.url}/a")
    assert (page.url, page.body) == (f"{server.url}/d?e=f", b"found")
    assert [sent.target for sent in server.sent] == ["/a", "/b/c", "/d?e=f"]


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/inside",  # another name, which nobody trusts
        "http://[::1]:{port}/inside",
        "//0.0.0.0:{port}/inside",
        "https://localhost:{port}/inside",
        f"http://{HOST}:9/inside",  # the same host at another port
    ],
)
def test_a_redirect_to_a_private_address_is_refused(server, settings, location):
    settings.PRIVATE_HOST_ALLOWLIST = [f"{HOST}:{server.server_port}"]
    server.will_answer(b"", 302, {"Location": location.format(port=server.server_port)})
    with pytest.raises(NoAnswer):
        fetch(f"{server.url}/outside")
    assert [sent.target for sent in server.sent] == ["/outside"]


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://user:pass@127.0.0.1/",
        "http://[::1",
        "data:text/html,x",
    ],
)
def test_a_redirect_to_what_is_no_page_is_refused(server, allowed, location):
    server.will_answer(b"", 302, {"Location": location})
    with pytest.raises(NoAnswer, match="address"):
        fetch(server.url)
    assert len(server.sent) == 1


def test_the_body_of_a_redirect_is_left_unread(server, allowed):
    def endless(connection):
        connection.write(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):
            while True:
                connection.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        connection.close_connection = True

    server.queue.append(endless)
    server.will_answer(b"found")
    assert fetch(f"{server.url}/a").body == b"found"


def test_redirects_come_to_an_end(server, allowed):
    server.serves("/round", b"", 302, {"Location": "/round"})
    with pytest.raises(NoAnswer, match="redirects too often"):
        fetch(f"{server.url}/round")
    assert len(server.sent) == web_pages.MAX_REDIRECTS + 1


def test_a_cookie_goes_back_to_its_own_host_alone(server, settings):
    """Some sites redirect until they see it."""
    settings.PRIVATE_HOST_ALLOWLIST = [HOST, "localhost"]
    server.will_answer(b"", 302, {"Location": "/b", "Set-Cookie": "session=1; Path=/"})
    server.will_answer(b"", 302, {"Location": f"http://localhost:{server.server_port}/c"})
    server.will_answer(b"")
    fetch(f"{server.url}/a")
    assert [sent.headers["Cookie"] for sent in server.sent] == [None, "session=1", None]


@pytest.mark.parametrize(
    "url", ["", "example.com", "ftp://example.com/", "file:///etc/passwd", "http://", "http://a:b@c/"]
)
def test_what_is_no_address_of_a_page(url):
    with pytest.raises(NoAnswer, match="address"):
        fetch(url)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"x" * 1001, {}), (gzip.compress(b"x" * 10_000_000), {"Content-Encoding": "gzip"})],
)
def test_a_page_that_is_too_large(server, allowed, body, headers):
    server.will_answer(body, headers=headers)
    with pytest.raises(NoAnswer, match="larger than 1000 bytes"):
        fetch(server.url, max_bytes=1000)


def test_one_that_cannot_be_reached(allowed):
    with closed_port() as url, pytest.raises(NoAnswer, match="cannot be reached"):
        fetch(url)
    with pytest.raises(NoAnswer, match="cannot be reached"):
        fetch("http://nowhere.invalid/")


def test_a_server_that_hangs_up(server, allowed):
    server.will_hang_up()
    with pytest.raises(NoAnswer):
        fetch(server.url)


def test_names_of_this_machine_are_private():
    """The premise of the tests above."""
    assert {info[4][0] for info in socket.getaddrinfo("localhost", 80)} <= {"127.0.0.1", "::1"}
