"""`serve` with two worker processes, as in production: changes reach every worker, and failures are survived."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.installation import Server, forks_of, serving, wait_until
from tests.support.providers import CHAT_COMPLETION
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
    with serving(tmp_path, upstream, DJANGO_SETTINGS_MODULE="tests.support.blocking_settings") as server:
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
