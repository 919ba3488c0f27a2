"""puffer's processes on a new database, for tests that start, stop and kill them."""

import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
import requests

from tests.support.repository import ROOT
from tests.support.upstream import Upstream

RUNS_ON = os.environ.get("DATABASE_URL", "")
POSTGRES = (
    RUNS_ON
    if RUNS_ON.startswith("postgres")
    else os.environ.get("PUFFER_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")
)
at_the_end = ExitStack()  # cleanup after all tests; conftest.py closes it
QUESTION = {"provider": "openai", "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "confidential"}]}


@dataclass
class Installation:
    """A database and the processes that use it. `variables` are added to a bare environment."""

    folder: Path
    database_url: str
    variables: dict[str, str] = field(default_factory=dict)
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @classmethod
    @contextmanager
    def new(cls, folder: Path, kind: str = "sqlite", **variables: str) -> Iterator[Self]:
        """Yield an installation with a new database; kill its processes at the end."""
        with new_database(kind, folder) as url:
            installation = cls(folder, url, variables)
            try:
                yield installation
            finally:
                installation.kill_all()

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"} | {
            "PUFFER_ENV_FILE": "/nonexistent",
            "SECRET_KEY": "only-for-tests",
            "DATABASE_URL": self.database_url,
            "LOCAL_MODEL": "off",
            **self.variables,
        }

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code: str) -> str:
        """Run the code in a new process with Django set up, like a change made by another process."""
        return self.manage("shell", "--no-imports", "-c", code).strip()

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start a manage.py command. It writes to `log_file` unless Popen `options` redirect its output."""
        command = [sys.executable, "manage.py", *arguments]
        with self.log_file.open("ab") as log:
            options = {"stdout": log, "stderr": log, **options}
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment, **options)
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT. Any other statement is committed."""
        connect = sqlite3.connect if self.database_url.startswith("sqlite") else psycopg.connect
        with closing(connect(self.database_url.removeprefix("sqlite:///"))) as database, database:
            cursor = database.execute(query)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str) -> Any:
        ((value,),) = self.rows(query)
        return value

    @property
    def log_file(self) -> Path:
        """Return the file with the output of all processes."""
        return self.folder / "log"


class Server(Installation):
    """An installation that runs `serve` with two worker processes, as in production."""

    upstream: Upstream
    url: str
    process: "subprocess.Popen[bytes]"
    cookies: dict[str, Any]  # of signed-in users by name, for browser tests

    def serve(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = self.start("serve", "--port", str(port), "--workers", "2")
        wait_until(lambda: self.started_workers() >= 2 or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log_file.read_text()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def started_workers(self) -> int:
        """Return how many worker processes have started so far."""
        return self.log_file.read_text().count("startup complete")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0

    def generate(self, key: str, **more: Any) -> requests.Response:
        """Call /generate on a new connection, so that any worker may serve it."""
        return requests.post(
            f"{self.url}/wp-json/aipkit/v1/generate",
            json=QUESTION, headers={"Authorization": f"Bearer {key}"}, timeout=30, **more,
        )  # fmt: skip

    def statuses(self, key: str, count: int = 24) -> set[int]:
        """Return the statuses of `count` parallel calls, enough to reach every worker."""
        with ThreadPoolExecutor(count) as pool:
            return {response.status_code for response in pool.map(lambda _: self.generate(key), range(count))}


@contextmanager
def serving(folder: Path, upstream: Upstream, kind: str = "sqlite", **variables: str) -> Iterator[Server]:
    """Run a server on a new database, with `upstream` as OpenAI; stop it at the end unless the test already has."""
    openai = {"OPENAI_API_KEY": "sk-of-the-environment", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
    with Server.new(folder, kind, **openai | variables) as server:
        server.upstream, server.cookies = upstream, {}
        server.serve()
        yield server
        if server.process.returncode is None:
            server.stop()


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a new migrated database: an SQLite file in the folder, or a PostgreSQL database."""
    if kind == "sqlite":
        shutil.copy(migrated_file(), folder / "puffer.sqlite3")
        yield f"sqlite:///{folder}/puffer.sqlite3"
    else:
        with postgres_database(template=migrated_postgres_database()) as name:
            yield url_of(name)


@cache
def migrated_file() -> Path:
    """Migrate an SQLite file once, as the template of this test process's databases."""
    folder = Path(at_the_end.enter_context(tempfile.TemporaryDirectory(prefix="puffer-migrated-")))
    file = folder / "puffer.sqlite3"
    Installation(folder, f"sqlite:///{file}").manage("migrate", "--verbosity=0")
    return file


@cache
def migrated_postgres_database() -> str:
    """Migrate a PostgreSQL database once, as the template of this test process's databases."""
    name = at_the_end.enter_context(postgres_database())
    Installation(Path(), url_of(name)).manage("migrate", "--verbosity=0")
    return name


@contextmanager
def postgres_database(template: str = "template1") -> Iterator[str]:
    name = f"puffer_tests_{secrets.token_hex(4)}"
    try:
        connection = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL server is running")
    with connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def url_of(database: str) -> str:
    return f"{POSTGRES.rpartition('/')[0]}/{database}"


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {seconds} s"
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    """Return whether the server is up and ready."""
    try:
        return requests.get(f"{url}/health/ready", timeout=1).ok
    except requests.RequestException:
        return False


def forks_of(process: int, name: str) -> list[int]:
    """Return the pids of the children of `process` that are called "puffer {name}"."""
    command = ["pgrep", "-P", str(process), "-x", f"puffer {name}"]
    return [int(pid) for pid in subprocess.run(command, capture_output=True, text=True).stdout.split()]
