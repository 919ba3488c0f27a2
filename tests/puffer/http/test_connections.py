"""Limits of connections on a real server: what is too long, too slow or too much ends, and all others are served."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.support.installation import Server, forks_of

pytestmark = pytest.mark.slow

MAX_CONNECTIONS = 50
REFUSED = {401, 403}  # for want of a valid key: 403 until the first key exists
PIECE = b"a" * 65_536
UNFINISHED = {
    "head": b"GET /embed.js HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    "body of a page": b"POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc",
    "body of a call": b"POST /wp-json/aipkit/v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nabc",
    "nothing": b"",
    "blank lines": b"\r\n\r\n",
}
ENDLESS = {
    "a header": (b"GET /embed.js HTTP/1.1\r\nHost: localhost\r\nX-A: ", PIECE),
    "headers": (b"GET /embed.js HTTP/1.1\r\nHost: localhost\r\n", b"a:b\r\n" * 10_000),
    "an address": (b"GET /", PIECE),
    "blank lines": (b"", b"\r\n" * 30_000),
    "a trailer": (
        b"POST /embed.js HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: ",
        PIECE,
    ),
    "requests on one connection": (b"", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000),
    "a chunked body": (
        b"POST /health/live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + PIECE + b"\r\n",
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("connections")
    with Server.new(folder, CLIENT_TIMEOUT="2", MAX_CONNECTIONS=str(MAX_CONNECTIONS)) as server:
        server.serve()
        yield server


def connect(server: Server, data: bytes = b"") -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(data)
    return connection


def status_of(connection: socket.socket) -> int:
    """Return the status of the next answer; 0 if the connection was closed without one."""
    try:
        return int(connection.recv(4096)[9:12] or 0)
    except ConnectionError:
        return 0


def memory(server: Server) -> int:
    """Return the resident bytes of all server processes."""
    lines = [
        line
        for pid in forks_of(server.process.pid, "server")
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    ]
    return sum(1024 * int(line.split()[1]) for line in lines)


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_request_that_does_not_go_on_is_ended(server, name):
    started = time.monotonic()
    with connect(server, UNFINISHED[name]) as connection:
        assert status_of(connection) == 408
        assert connection.recv(1) == b""
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health/live?" + b"a" * 31_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /health/live?" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET /health/live?" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 90 + b"\r\n", 200),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    ],
)
def test_a_head_has_a_size(server, head, status):
    with connect(server, head) as connection:
        assert status_of(connection) == status


def test_drops_do_not_keep_a_head_alive(server):
    started = time.monotonic()
    with connect(server, UNFINISHED["head"]) as connection:
        connection.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() - started < 20:
            with suppress(TimeoutError):
                answer = connection.recv(100)
            connection.sendall(b"a")
    assert b" 408 " in answer


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_refused_and_not_kept(server, name):
    head, piece = ENDLESS[name]
    before, sent = memory(server), 0
    with connect(server, head) as connection, suppress(ConnectionError):
        while sent < 300_000_000:
            connection.sendall(piece)
            sent += len(piece)
    assert sent < 300_000_000
    assert memory(server) - before < 30_000_000


@pytest.mark.parametrize("path", ["/embed.js", "/admin/login/", "/admin/", "/chat/1/", "/api/schema/"])
def test_a_page_that_needs_no_large_body_refuses_one(server, path):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 150000000\r\n\r\n"
    with connect(server, head.encode()) as connection:
        assert status_of(connection) == 413


def test_a_body_that_was_sent_fast_may_not_stall_for_long_either(server):
    key = server.manage("create_api_key", "stalling").splitlines()[-1]
    head = f"POST /wp-json/aipkit/v1/generate HTTP/1.1\r\nAuthorization: Bearer {key}\r\nContent-Length: 900001\r\n\r\n"
    started = time.monotonic()
    with connect(server, head.encode() + b"x" * 900_000) as connection:
        assert status_of(connection) == 408
    assert time.monotonic() - started < 10


def test_a_request_is_answered_once(server):
    """A proxy would take the second answer for the answer to the next request that it sends."""
    head = b"POST /wp-json/aipkit/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
    answer = b""
    with connect(server, head) as connection:
        while received := connection.recv(4096):
            answer += received
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 4")


def test_unfinished_bodies_of_strangers_are_not_held(server):
    before = memory(server)
    head = b"POST /wp-json/aipkit/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9900000\r\n\r\n"
    connections = [connect(server, head) for _ in range(40)]
    assert {status_of(connection) for connection in connections} <= REFUSED
    for connection in connections:
        connection.sendall(PIECE * 10)
        connection.close()
    assert memory(server) - before < 30_000_000


@pytest.mark.parametrize("name", UNFINISHED)
def test_unfinished_requests_give_way(server, name):
    connections = [connect(server, UNFINISHED[name]) for _ in range(6 * MAX_CONNECTIONS)]
    try:
        for path in ("/health/live", "/embed.js"):
            assert requests.get(server.url + path, timeout=5).status_code == 200
    finally:
        for connection in connections:
            connection.close()


def test_a_connection_is_kept_between_requests(server):
    session = requests.Session()
    for _ in range(3):
        assert session.get(f"{server.url}/health/live", timeout=5).status_code == 200
    (pool,) = session.get_adapter(server.url).poolmanager.pools._container.values()
    assert pool.num_connections == 1
    assert "Traceback" not in server.log_file.read_text()


def test_a_caller_who_closes_the_connection_sees_why_a_large_body_is_refused(server):
    """Nothing is left unread when it is closed: the client would get a reset in place of the answer."""
    response = requests.post(
        f"{server.url}/wp-json/aipkit/v1/generate", data=b"x" * 20_000_000, headers={"Connection": "close"}, timeout=20
    )
    assert response.status_code in REFUSED
