"""puffer's own processes on a database of their own, for tests that start, stop and kill them."""

import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

ROOT = Path(__file__).parent.parent.parent
POSTGRES = os.environ.get("PUFFER_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")


@dataclass
class Installation:
    """`variables` are those of its environment that differ from a bare one."""

    folder: Path
    database_url: str
    variables: dict[str, str] = field(default_factory=dict)
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

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
        return self.manage("shell", "--no-imports", "-c", code).strip()

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Of a SELECT. What another statement changes is kept."""
        connect = sqlite3.connect if self.database_url.startswith("sqlite") else psycopg.connect
        with closing(connect(self.database_url.removeprefix("sqlite:///"))) as database, database:
            cursor = database.execute(query)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str) -> Any:
        ((value,),) = self.rows(query)
        return value

    @property
    def log_file(self) -> Path:
        """What its processes have written."""
        return self.folder / "log"


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """Its URL: a file of the folder for "sqlite", else a database of PostgreSQL."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/puffer.sqlite3"
        return
    name = f"puffer_tests_{secrets.token_hex(4)}"
    try:
        connection = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL server here")
    with connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{POSTGRES.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    """Whether a server is there that is ready."""
    try:
        return requests.get(f"{url}/health/ready", timeout=1).ok
    except requests.RequestException:
        return False


def forks_of(process: int, name: str) -> list[int]:
    """The ids of those that do the work of the name for `serve`."""
    command = ["pgrep", "-P", str(process), "-x", f"puffer {name}"]
    return [int(pid) for pid in subprocess.run(command, capture_output=True, text=True).stdout.split()]
