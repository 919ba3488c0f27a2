"""GET /health/live and /health/ready, and what a server does without a database that it can use."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
import requests

from tests.support.installation import Installation, Server, free_port, serving, wait_until
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.repository import ROOT
from tests.support.upstream import Upstream, running

BOT = """
from chatbots.models import Chatbot
Chatbot.objects.create(name="Shop", provider="openai", model="gpt-4o-mini", status="published")
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running() as server:
        server.serves("/v1/chat/completions", CHAT_COMPLETION)
        yield server


class Network:
    """A TCP relay to PostgreSQL that can stop to pass anything on, in both directions."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.passes = threading.Event()
        self.passes.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self.relay, args=(source, sink), daemon=True).start()

    def relay(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                self.passes.wait()
                sink.sendall(data)


@contextmanager
def behind(server_url: str) -> Iterator[tuple[Network, str]]:
    """Give a relay to the database's server, and the database's URL by way of it."""
    address, _, name = server_url.rpartition("/")
    user, _, host = address.removeprefix("postgres://").rpartition("@")
    network = Network((host.split(":")[0], int(host.partition(":")[2] or 5432)))
    with network.listener:
        yield network, f"postgres://{user}@127.0.0.1:{network.port}/{name}"


def seconds_of(call: "requests.Response") -> float:
    return call.elapsed.total_seconds()


@pytest.mark.slow
def test_a_database_that_stalls_holds_no_request_for_long(tmp_path, upstream):
    with Server.new(tmp_path, "postgresql") as there, behind(there.database_url) as (network, url):
        key = there.manage("create_api_key", "caller").splitlines()[-1]
        openai = {"OPENAI_API_KEY": "sk-0123456789", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
        there.database_url, there.variables = url, {"DATABASE_TIMEOUT": "2", **openai}
        there.upstream = upstream
        there.serve()
        assert there.statuses(key, 8) == {200}
        network.passes.clear()
        time.sleep(1.1)  # so that what was read of the key is read again
        with ThreadPoolExecutor(40) as pool:  # five for each thread that uses the database
            responses = list(pool.map(lambda _: there.generate(key), range(40)))
        assert {response.status_code for response in responses} == {503}
        assert {response.json()["code"] for response in responses} == {"database_unavailable"}
        assert {response.headers["Retry-After"] for response in responses} == {"5"}
        assert max(map(seconds_of, responses)) < 12
        live = requests.get(f"{there.url}/health/live", timeout=20)
        assert (live.status_code, seconds_of(live) < 1) == (200, True)
        ready = requests.get(f"{there.url}/health/ready", timeout=20)
        assert (ready.status_code, ready.json()["status"]) == (503, "the database does not answer")
        network.passes.set()
        wait_until(lambda: there.statuses(key, 8) == {200}, 15)
        network.passes.clear()
        began = time.monotonic()
        there.stop()
        assert time.monotonic() - began < 15


@pytest.mark.slow
def test_a_statement_of_a_request_is_limited_and_one_of_a_command_is_not(tmp_path):
    with Installation.new(tmp_path, "postgresql", DATABASE_TIMEOUT="0.2") as installation:
        code = (
            "from django.db import connection, OperationalError\n"
            "from puffer.runtime.postgresql.base import DatabaseWrapper\n"
            "connection.cursor().execute('SELECT pg_sleep(0.5)')\n"
            "connection.close()\n"
            "DatabaseWrapper.statement_seconds = 0.2\n"
            "try: connection.cursor().execute('SELECT pg_sleep(0.5)')\n"
            "except OperationalError as error: print(error)\n"
        )
        assert "statement timeout" in installation.python(code)


@pytest.mark.slow
def test_a_black_hole_is_given_up_after_five_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgres://nobody@127.0.0.1:{silent.getsockname()[1]}/nothing"
        port = free_port()
        installation = Installation(tmp_path, url)
        try:
            installation.start("serve", "--port", str(port))
            live = f"http://127.0.0.1:{port}/health/live"
            wait_until(lambda: "Started server process" in installation.log_file.read_text(), 60)
            assert requests.get(live, timeout=5).status_code == 200
            assert requests.get(live.replace("live", "ready"), timeout=9).status_code == 503
            began = time.monotonic()
            installation.processes[0].terminate()
            assert installation.processes[0].wait(30) == 0
            assert time.monotonic() - began < 12
        finally:
            installation.kill_all()


def test_a_database_of_another_kind_is_refused(tmp_path):
    installation = Installation(tmp_path, "mysql://root@127.0.0.1/puffer")
    with pytest.raises(AssertionError, match="DATABASE_URL must begin with sqlite:/// or postgres://"):
        installation.manage("check")


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_database_without_its_tables_is_refused(tmp_path, command):
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/empty.sqlite3")
    done = subprocess.run(
        [sys.executable, "manage.py", command], cwd=ROOT, env=installation.environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Run `manage.py migrate` first." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_server_whose_database_is_migrated_later_is_not_ready_before(tmp_path):
    """As one that started while the database did not answer."""
    with Installation.new(tmp_path) as installation:
        code = (
            "import asyncio\n"
            "from django.db import connection\n"
            "from puffer.runtime import health\n"
            "def status(): return asyncio.run(health.ready())\n"
            "rows = 'django_migrations WHERE app = \\'logs\\''\n"
            "connection.cursor().execute('CREATE TABLE kept AS SELECT * FROM ' + rows)\n"
            "connection.cursor().execute('DELETE FROM ' + rows)\n"
            "print(status())\n"
            "connection.cursor().execute('INSERT INTO django_migrations SELECT * FROM kept')\n"
            "print(status() or 'ok')\n"
        )
        assert installation.python(code).splitlines() == ["the database lacks migrations", "ok"]


@pytest.mark.slow
def test_a_full_disk_is_told_before_the_model_is_asked(tmp_path, upstream):
    everything = "1000000000000000"  # bytes: more than any disk has
    with serving(tmp_path, upstream, MIN_FREE_BYTES=everything) as server:
        key = server.manage("create_api_key", "caller").splitlines()[-1]
        server.python(BOT)
        upstream.sent.clear()
        question = {"messages": [{"role": "user", "content": "Hello"}]}
        for path in ("chat/1/message", "generate"):
            response = requests.post(
                f"{server.url}/wp-json/aipkit/v1/{path}", json=question | {"provider": "openai", "model": "m"},
                headers={"Authorization": f"Bearer {key}"}, timeout=30,
            )  # fmt: skip
            assert (response.status_code, response.json()["code"]) == (503, "storage_full")
        assert upstream.sent == []
        ready = requests.get(f"{server.url}/health/ready", timeout=10)
        assert (ready.status_code, ready.json()["status"]) == (503, "the disk of the database is full")
        assert requests.get(f"{server.url}/health/live", timeout=10).status_code == 200


def test_a_command_says_that_the_disk_is_full(tmp_path):
    """`max_page_count` makes SQLite fail as it does on a full disk."""
    with Installation.new(tmp_path) as installation:
        code = (
            "from django.db import connection\n"
            "connection.cursor().execute('PRAGMA max_page_count = 1')\n"
            "connection.cursor().execute('CREATE TABLE large AS SELECT randomblob(1000000)')\n"
        )
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", code], cwd=ROOT,
            env=installation.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr == "The disk of the database is full. Free some space, then run the command again.\n"


def test_the_write_ahead_log_shrinks_when_a_long_reader_has_gone(tmp_path):
    with Installation.new(tmp_path) as installation:
        code = (
            "import os, sqlite3\n"
            "from django.db import connection\n"
            "path = connection.settings_dict['NAME']\n"
            "cursor = connection.cursor()\n"
            "cursor.execute('CREATE TABLE large (content BLOB)')\n"
            "reader = sqlite3.connect(path)\n"
            "reader.execute('BEGIN')\n"
            "reader.execute('SELECT count(*) FROM large').fetchall()\n"
            "for _ in range(30): cursor.execute('INSERT INTO large VALUES (randomblob(1000000))')\n"
            "print(os.path.getsize(path + '-wal') > 2 * 16777216 - 4000000)\n"
            "reader.close()\n"
            "for _ in range(3): cursor.execute('INSERT INTO large VALUES (1)')\n"
            "print(os.path.getsize(path + '-wal') <= 16777216)\n"
        )
        assert installation.python(code).splitlines() == ["True", "True"]
