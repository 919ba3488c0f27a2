"""`serve` with two worker processes, as in production: changes reach every worker, and failures are survived."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.installation import Server, forks_of, serving, wait_until
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.repository import ROOT
from tests.support.upstream import Upstream, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running() as server:
        server.serves("/v1/chat/completions", CHAT_COMPLETION)
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), upstream) as server:
        yield server


@pytest.fixture(scope="module")
def keys(server: Server) -> Iterator[str]:
    return iter(
        server.python(
            "from puffer.models import ApiKey, Scope\n"
            "for number in range(10): print(ApiKey(name=f'key {number}', scopes=Scope.values).issue())"
        ).split()
    )


@pytest.fixture
def key(keys: Iterator[str]) -> str:
    return next(keys)


def test_both_workers_answer(server, key):
    assert server.statuses(key) == {200}


def test_every_worker_refuses_a_revoked_key_within_a_second(server, key):
    assert server.statuses(key) == {200}
    server.python(f"from puffer.models import ApiKey; ApiKey.objects.get(ending='{key[-4:]}').revoke()")
    assert server.statuses(key) == {401}


def test_a_key_revoked_by_another_host_is_refused_within_a_second(server, key):
    """Revoke the key in the database only, like a server on another host, which cannot touch our marker file."""
    assert server.statuses(key) == {200}
    server.rows(f"UPDATE puffer_apikey SET revoked_at = CURRENT_TIMESTAMP WHERE ending = '{key[-4:]}'")
    time.sleep(1)
    assert server.statuses(key) == {401}


def test_every_worker_uses_a_saved_provider_key_from_the_next_request(server, key):
    server.statuses(key)
    server.python(
        "from providers.models import ProviderConfig;"
        "config = ProviderConfig.objects.get(slug='openai'); config.api_key = 'sk-of-the-admin'; config.save()"
    )
    server.upstream.sent.clear()
    server.statuses(key)
    assert {sent.headers["authorization"] for sent in server.upstream.sent} == {"Bearer sk-of-the-admin"}
    server.python(
        "from providers.models import ProviderConfig;"
        "config = ProviderConfig.objects.get(slug='openai'); config.api_key = ''; config.save()"
    )


def test_every_call_adds_one_usage_record(server, key):
    count = "SELECT count(*) FROM logs_usageevent"
    before = server.value(count)
    server.statuses(key, 50)
    wait_until(lambda: server.value(count) >= before + 50, 5)
    assert server.value(count) == before + 50


def test_the_log_is_json_without_keys_or_prompts(server, key):
    requests.get(f"{server.url}/wp-json/aipkit/v1/logs?aipkit_api_key={key}", timeout=10)
    server.generate(key)
    wait_until(lambda: '"/wp-json/aipkit/v1/logs"' in server.log_file.read_text(), 10)  # written after the answer
    log = server.log_file.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line.get("path") == "/wp-json/aipkit/v1/logs" and line["request_id"] for line in lines)
    assert "sk-of-the" not in log
    assert "puf_" not in log
    assert "confidential" not in log


def test_a_worker_that_is_killed_is_replaced(server, key):
    os.kill(forks_of(server.process.pid, "server")[0], signal.SIGKILL)
    wait_until(lambda: server.started_workers() == 3, 30)
    assert server.statuses(key) == {200}


def test_a_worker_whose_event_loop_hangs_is_replaced(tmp_path, upstream):
    with serving(tmp_path, upstream, DJANGO_SETTINGS_MODULE="tests.support.settings.blocking") as server:
        before = set(forks_of(server.process.pid, "server"))
        with pytest.raises(requests.ConnectionError):  # no answer: the process exits
            requests.get(f"{server.url}/wp-json/", headers={"X-Block": "yes"}, timeout=60)
        wait_until(lambda: len(set(forks_of(server.process.pid, "server")) - before) == 1)
        assert len(before & set(forks_of(server.process.pid, "server"))) == 1
        assert "in block_event_loop" in server.log_file.read_text()  # the stack of the hanging event loop
        key = server.manage("create_api_key", "hung").splitlines()[-1]
        assert server.statuses(key) == {200}


def test_no_process_outlives_a_server_that_is_killed(tmp_path, upstream):
    with serving(tmp_path, upstream) as server:
        forks = [*forks_of(server.process.pid, "server"), *forks_of(server.process.pid, "worker")]
        assert len(forks) == 3
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in forks), 30)


@pytest.mark.parametrize("name", ["server", "worker"])
def test_a_stopped_process_is_replaced(tmp_path, upstream, name):
    """As one that hangs where Python code cannot notice it."""
    with serving(tmp_path, upstream, EVENT_LOOP_TIMEOUT="2") as server:
        before = set(forks_of(server.process.pid, name))
        os.kill(min(before), signal.SIGSTOP)
        wait_until(lambda: len(set(forks_of(server.process.pid, name)) - before) == 1, 30)
        assert min(before) not in forks_of(server.process.pid, name)
        assert "has sent no heartbeat for 4 s" in server.log_file.read_text()


def test_the_stop_kills_what_does_not_end(tmp_path, upstream):
    with serving(tmp_path, upstream, SHUTDOWN_TIMEOUT="6") as server:
        for name in ("server", "worker"):
            os.kill(forks_of(server.process.pid, name)[0], signal.SIGSTOP)
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert "has not stopped within 6 s" in server.log_file.read_text()


def test_a_process_that_cannot_be_forked_is_started_later(tmp_path, upstream):
    with serving(tmp_path, upstream, DJANGO_SETTINGS_MODULE="tests.support.settings.failing_fork") as server:
        wait_until(lambda: len(forks_of(server.process.pid, "worker")) == 1, 30)
        assert "The worker could not be started: Cannot allocate memory." in server.log_file.read_text()


HALF_SENT = (
    b"POST /wp-json/aipkit/v1/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b'Content-Length: 1000\r\n\r\n{"half":'
)


@pytest.mark.parametrize("beginning", [HALF_SENT, HALF_SENT[:30], b""])
def test_half_a_request_does_not_hold_the_stop(tmp_path, upstream, beginning):
    with serving(tmp_path, upstream) as server, socket.create_connection(server.address) as client:
        client.sendall(beginning)
        assert requests.get(f"{server.url}/health/ready", timeout=10).ok  # meanwhile the server has read it
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 10


def test_new_connections_are_refused_while_running_requests_are_finished(tmp_path, upstream, monkeypatch):
    asked, finish = threading.Event(), threading.Event()
    answer = upstream.pages["/v1/chat/completions"]

    def behave(conversation: Any) -> None:
        asked.set()
        assert finish.wait(20)
        answer(conversation)

    monkeypatch.setitem(upstream.pages, "/v1/chat/completions", behave)
    with serving(tmp_path, upstream) as server, ThreadPoolExecutor() as pool, requests.Session() as proxy:
        key = server.manage("create_api_key", "slow").splitlines()[-1]
        proxy.get(f"{server.url}/health/live", timeout=10)  # leaves an idle connection
        response = pool.submit(server.generate, key)
        assert asked.wait(10)
        server.process.terminate()
        wait_until(lambda: not listens(server.address), 5)
        last = proxy.get(f"{server.url}/health/live", timeout=10)  # on the connection that was idle
        assert (last.status_code, last.headers["Connection"]) == (200, "close")
        with socket.create_server(server.address):
            pass  # a new server can have the port
        finish.set()
        assert response.result().status_code == 200
        assert server.process.wait(30) == 0


def test_a_stop_refuses_connections_but_breaks_none_off(tmp_path, upstream):
    """Neither one that was just opened nor one that a proxy keeps open."""
    failures, answered, stop = [], [], threading.Event()

    def call(session: requests.Session, url: str) -> None:
        while not stop.is_set():
            try:
                answered.append(session.get(url, timeout=30).status_code)
            except requests.ConnectionError as error:
                if "refused" in str(error):
                    return
                failures.append(str(error))

    with serving(tmp_path, upstream) as server, ThreadPoolExecutor(8) as pool:
        url = f"{server.url}/wp-json/aipkit/v1"
        for number in range(8):
            session = requests.Session()
            session.headers["Connection"] = "close" if number % 2 else "keep-alive"
            pool.submit(call, session, url)
        wait_until(lambda: len(answered) > 50)
        server.stop()
        stop.set()
    assert failures == []
    assert set(answered) == {200}


def listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=2).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_socket_of_systemd_serves_the_next_server_too(tmp_path, upstream):
    """Clients that connect while nobody serves wait for the next server."""
    with Server.new(tmp_path) as installation, socket.create_server(("127.0.0.1", 0)) as listener:
        command = f"LISTEN_FDS=1 LISTEN_PID=$$ exec {sys.executable} manage.py serve --no-worker 3<&{listener.fileno()}"
        for _ in range(2):
            with ThreadPoolExecutor() as pool:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/health/ready"
                response = pool.submit(requests.get, url, timeout=60)
                process = subprocess.Popen(
                    ["bash", "-c", command], cwd=ROOT, env=installation.environment, pass_fds=[listener.fileno()]
                )
                installation.processes.append(process)
                assert response.result().status_code == 200
                process.terminate()
                assert process.wait(30) == 0


def test_a_running_request_is_finished_when_the_server_stops(tmp_path, upstream, monkeypatch):
    request_received, stopping = threading.Event(), threading.Event()
    answer = upstream.pages["/v1/chat/completions"]

    def behave(conversation: Any) -> None:
        request_received.set()
        assert stopping.wait(10)
        time.sleep(0.5)  # by now the server is shutting down
        answer(conversation)

    monkeypatch.setitem(upstream.pages, "/v1/chat/completions", behave)
    with serving(tmp_path, upstream) as server, ThreadPoolExecutor() as pool:
        key = server.manage("create_api_key", "slow").splitlines()[-1]
        response = pool.submit(server.generate, key)
        assert request_received.wait(10)
        server.process.terminate()
        stopping.set()
        assert response.result().status_code == 200
        assert server.process.wait(30) == 0
        assert server.value("SELECT count(*) FROM logs_usageevent") == 1


def test_lost_database_connections_are_replaced(tmp_path, upstream):
    """Kill every connection, as a restart of PostgreSQL does."""
    with serving(tmp_path, upstream, "postgresql") as server:
        key = server.manage("create_api_key", "postgres").splitlines()[-1]
        assert server.statuses(key) == {200}
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        for _ in range(3):
            server.rows(f"SELECT pg_terminate_backend(pid) {others}")
            time.sleep(1.1)
            assert server.statuses(key) == {200}
            assert requests.get(f"{server.url}/health/ready", timeout=10).status_code == 200
        # Each of the two workers has 4 threads for the API, 8 for pages and 1 for health checks.
        assert server.value(f"SELECT count(*) {others}") <= 2 * (4 + 8 + 1)
