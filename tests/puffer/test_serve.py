"""`serve` with two worker processes, as it runs in production: what one of them must know of the others."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from tests.installation import POSTGRES, ROOT, empty_database, forks_of, wait_until
from tests.providers_on_loopback import CHAT_COMPLETION, Upstream, running

pytestmark = pytest.mark.slow

QUESTION = {"provider": "openai", "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "confidential"}]}


@dataclass
class Server:
    url: str
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"
    log: Path
    upstream: Upstream

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return done.stdout

    def python(self, code: str) -> str:
        """Run it in a process of its own, with Django set up: a change from elsewhere."""
        return self.manage("shell", "--no-imports", "-c", code)

    def generate(self, key: str, **more: Any) -> requests.Response:
        """On a connection of its own, so that any worker may get it."""
        return requests.post(
            f"{self.url}/wp-json/aipkit/v1/generate",
            json=QUESTION, headers={"Authorization": f"Bearer {key}"}, timeout=30, **more,
        )  # fmt: skip

    def statuses(self, key: str, count: int = 24) -> set[int]:
        """Of many calls at once, which meet every worker."""
        with ThreadPoolExecutor(count) as pool:
            return {response.status_code for response in pool.map(lambda _: self.generate(key), range(count))}


def start(folder: Path, database_url: str, upstream: Upstream, **variables: str) -> Server:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"} | {
        "PUFFER_ENV_FILE": "/nonexistent",
        "SECRET_KEY": "only-for-tests",
        "DATABASE_URL": database_url,
        "OPENAI_API_KEY": "sk-of-the-environment",
        "OPENAI_BASE_URL": f"{upstream.url}/v1",
        "LOCAL_MODEL": "off",
        **variables,
    }
    server = Server(f"http://127.0.0.1:{port}", environment, None, folder / "log", upstream)  # type: ignore[arg-type]
    server.manage("migrate", "--verbosity=0")
    with server.log.open("wb") as log:
        server.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--port", str(port), "--workers", "2"],
            cwd=ROOT, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    deadline = time.monotonic() + 60
    while server.log.read_text().count("startup complete") < 2:
        assert time.monotonic() < deadline, server.log.read_text()
        assert server.process.poll() is None, server.log.read_text()
        time.sleep(0.1)
    return server


def stop(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running() as server:
        server.serves("/v1/chat/completions", CHAT_COMPLETION)
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    server = start(folder, f"sqlite:///{folder}/puffer.sqlite3", upstream)
    yield server
    stop(server)


@pytest.fixture
def key(server: Server) -> str:
    return server.manage("create_api_key", secrets.token_hex(8)).splitlines()[-1]


def test_both_workers_answer(server, key):
    assert server.statuses(key) == {200}


def test_a_revoked_key_is_dead_within_a_second_in_every_worker(server, key):
    assert server.statuses(key) == {200}
    server.python(f"from puffer.models import ApiKey; ApiKey.objects.get(ending='{key[-4:]}').revoke()")
    assert server.statuses(key) == {401}


def test_a_key_revoked_behind_our_back_is_dead_within_a_second_too(server, key):
    """As on another machine, where nobody touches our marker file."""
    assert server.statuses(key) == {200}
    server.python(
        "from django.utils import timezone; from puffer.models import ApiKey;"
        f"ApiKey.objects.filter(ending='{key[-4:]}').update(revoked_at=timezone.now())"
    )
    time.sleep(1)
    assert server.statuses(key) == {401}


def test_a_saved_provider_key_counts_from_the_next_request_in_every_worker(server, key):
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


def test_every_call_leaves_one_usage_record(server, key):
    count = "from logs.models import UsageEvent; print(UsageEvent.objects.count())"
    before = int(server.python(count))
    server.statuses(key, 50)
    time.sleep(0.5)
    assert int(server.python(count)) - before == 50


def test_the_log_is_json_and_holds_no_key_and_no_prompt(server, key):
    requests.get(f"{server.url}/wp-json/aipkit/v1/logs?aipkit_api_key={key}", timeout=10)
    server.generate(key)
    log = server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line.get("path") == "/wp-json/aipkit/v1/logs" and line["request_id"] for line in lines)
    assert "sk-of-the" not in log
    assert "puf_" not in log
    assert "confidential" not in log


def test_a_worker_that_is_killed_is_replaced(server, key):
    os.kill(forks_of(server.process.pid, "server")[0], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while server.log.read_text().count("startup complete") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert server.statuses(key) == {200}


def test_a_worker_whose_event_loop_hangs_is_replaced(tmp_path, upstream):
    variables = {"DJANGO_SETTINGS_MODULE": "tests.puffer.blocking_settings"}
    server = start(tmp_path, f"sqlite:///{tmp_path}/puffer.sqlite3", upstream, **variables)
    try:
        before = set(forks_of(server.process.pid, "server"))
        with pytest.raises(requests.ConnectionError):  # no answer: the process exits
            requests.get(f"{server.url}/wp-json/", headers={"X-Block": "yes"}, timeout=60)
        wait_until(lambda: len(set(forks_of(server.process.pid, "server")) - before) == 1)
        assert len(before & set(forks_of(server.process.pid, "server"))) == 1
        assert "in block_event_loop" in server.log.read_text()  # the log says where it hung
        key = server.manage("create_api_key", "hung").splitlines()[-1]
        assert server.statuses(key) == {200}
    finally:
        stop(server)


def test_no_process_outlives_a_server_that_is_killed(tmp_path, upstream):
    server = start(tmp_path, f"sqlite:///{tmp_path}/puffer.sqlite3", upstream)
    forks = [*forks_of(server.process.pid, "server"), *forks_of(server.process.pid, "worker")]
    assert len(forks) == 3
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in forks), 30)


def test_a_running_request_is_finished_when_the_server_stops(tmp_path, upstream):
    server = start(tmp_path, f"sqlite:///{tmp_path}/puffer.sqlite3", upstream)
    key = server.manage("create_api_key", "slow").splitlines()[-1]

    def behave(conversation: Any) -> None:
        asked.set()
        time.sleep(1.5)
        answer(conversation)

    asked = threading.Event()
    answer = upstream.pages["/v1/chat/completions"]
    upstream.pages["/v1/chat/completions"] = behave
    try:
        with ThreadPoolExecutor() as pool:
            response = pool.submit(server.generate, key)
            assert asked.wait(10)
            stop(server)
            assert response.result().status_code == 200
    finally:
        upstream.pages["/v1/chat/completions"] = answer
    assert server.python("from logs.models import UsageEvent; print(UsageEvent.objects.count())").strip() == "1"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The URL of a database of our own."""
    with empty_database("postgresql", tmp_path) as url:
        yield url


def test_lost_database_connections_are_replaced(tmp_path, upstream, postgres):
    """What a restart of PostgreSQL looks like from here: every connection is dead."""
    server = start(tmp_path, postgres, upstream)
    try:
        key = server.manage("create_api_key", "postgres").splitlines()[-1]
        assert server.statuses(key) == {200}
        for _ in range(3):
            with psycopg.connect(POSTGRES, autocommit=True) as connection:
                database = postgres.rpartition("/")[2]
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
                )
            time.sleep(1.1)
            assert server.statuses(key) == {200}
            assert requests.get(f"{server.url}/health/ready", timeout=10).status_code == 200
        with psycopg.connect(POSTGRES) as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [database]
            ).fetchone()
        assert found is not None
        assert found[0] <= 2 * (4 + 8 + 1)  # two workers, each with its threads for the API, for pages and for health
    finally:
        stop(server)
