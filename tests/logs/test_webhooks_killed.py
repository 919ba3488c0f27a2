"""Webhooks while processes are killed: the server that writes the outbox, and the worker that sends from it."""

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from tests.providers_on_loopback import CHAT_COMPLETION, Upstream, answering, running
from tests.puffer.test_serve import POSTGRES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
QUEUED = 200


@dataclass
class Installation:
    """A database of its own, a receiver of webhooks and a provider that answers at once."""

    folder: Path
    database_url: str
    upstream: Upstream
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"} | {
            "PUFFER_ENV_FILE": "/nonexistent",
            "SECRET_KEY": "only-for-tests",
            "DATABASE_URL": self.database_url,
            "OPENAI_API_KEY": "sk-0123456789",
            "OPENAI_BASE_URL": f"{self.upstream.url}/v1",
            "PRIVATE_HOST_ALLOWLIST": "127.0.0.1",
            "LOCAL_MODEL": "off",
        }

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def python(self, code: str) -> str:
        names = "from logs.outbox import *; from chatbots.models import Chatbot; import uuid\n"
        return self.manage("shell", "--no-imports", "-c", names + code).strip()

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self.started.append(process)
        return process

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        connect = sqlite3.connect if self.database_url.startswith("sqlite") else psycopg.connect
        with closing(connect(self.database_url.removeprefix("sqlite:///"))) as database:
            return database.execute(query).fetchall()

    def states(self) -> dict[str, int]:
        return dict(self.rows("SELECT state, count(*) FROM logs_webhookdelivery GROUP BY state"))

    def arrived(self) -> Counter[str]:
        """How often each delivery was received."""
        hooks = [sent for sent in self.upstream.sent if sent.path == "/hook"]
        return Counter(sent.headers["X-AIPKit-Delivery-Id"] for sent in hooks)


@pytest.fixture(params=["sqlite", "postgres"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    url = f"sqlite:///{tmp_path}/puffer.sqlite3"
    if request.param == "postgres":
        name = f"puffer_webhooks_{os.getpid()}"
        try:
            server = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
        except psycopg.OperationalError:
            pytest.skip("no PostgreSQL server here")
        server.execute(f"CREATE DATABASE {name}")
        url = f"{POSTGRES.rpartition('/')[0]}/{name}"
    with running() as upstream:
        here = Installation(tmp_path, url, upstream)
        try:
            here.manage("migrate", "--verbosity=0")
            here.python(f"Webhook.objects.create(name='all', url='{upstream.url}/hook', events=EventName.values)")
            yield here
        finally:
            for process in here.started:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()
            upstream.shutdown()
            if request.param == "postgres":
                server.execute(f"DROP DATABASE {name} WITH (FORCE)")
                server.close()


def wait_until(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.1)


def slowly(connection: Any) -> None:
    """A receiver that takes its time, so that a kill falls into the middle of deliveries."""
    time.sleep(0.15)
    with suppress(OSError):
        answering(b"")(connection)


def test_a_killed_worker_loses_no_webhook(installation):
    """What was received and not noted goes out once more; each delivery is done once, and then for good."""
    installation.upstream.pages["/hook"] = slowly
    installation.python(
        "hook = Webhook.objects.get()\n"
        f"for _ in range({QUEUED}): WebhookDelivery.objects.create("
        "webhook=hook, event='chatbot.fb_submitted', event_id=uuid.uuid4(), payload='{}')"
    )
    # A killed worker's leases end a minute later, by design; here nobody waits that long.
    chance = random.Random(time.time_ns())
    for _ in range(10):
        worker = installation.start("worker")
        before = sum(installation.arrived().values())
        wait_until(lambda: sum(installation.arrived().values()) > before)  # noqa: B023
        time.sleep(chance.random() * 0.4)
        worker.kill()
        assert worker.wait(10) == -signal.SIGKILL
    assert 0 < installation.states()["done"] < QUEUED
    noted = {row[0] for row in installation.rows("SELECT delivery_id FROM logs_webhookdelivery WHERE state = 'done'")}
    received = installation.arrived()
    installation.python("WebhookDelivery.objects.exclude(lease='').update(leased_until=timezone.now())")
    installation.start("worker")
    wait_until(lambda: installation.states() == {"done": QUEUED})
    time.sleep(1.5)
    finally_received = installation.arrived()
    assert len(finally_received) == QUEUED
    # At most the four deliveries under way at each of the ten kills went out again, and none that was noted as done.
    assert sum(finally_received.values()) - QUEUED <= 4 * 10
    for delivery_id in noted:
        text = str(delivery_id) if "-" in str(delivery_id) else uuid_of(delivery_id)
        assert finally_received[text] == received[text], text
    attempts = installation.rows("SELECT delivery_id, attempts FROM logs_webhookdelivery")
    assert all(finally_received[uuid_of(delivery_id)] <= count for delivery_id, count in attempts)


def uuid_of(column: Any) -> str:
    """As SQLite and PostgreSQL keep one."""
    digits = str(column).replace("-", "")
    return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])


def test_a_killed_server_has_told_of_every_turn_that_it_has_stored(installation):
    """The server is killed ten times while callers chat: no turn without its two events, no event without its turn."""
    upstream = installation.upstream
    upstream.pages["/v1/chat/completions"] = answering(CHAT_COMPLETION)
    upstream.pages["/hook"] = answering(b"")
    bot = installation.python(
        "print(Chatbot.objects.create(name='Shop', status='published', provider='openai', model='gpt-4o-mini').pk)"
    )
    key = installation.manage("create_api_key", "caller").splitlines()[-1]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/wp-json/aipkit/v1/chat/{bot}/message"
    chance = random.Random(time.time_ns())
    answered: list[str] = []

    def ask() -> None:
        question = {"messages": [{"role": "user", "content": f"Question {len(answered)}"}]}
        with suppress(requests.ConnectionError):  # it was killed
            reply = requests.post(url, json=question, headers={"Authorization": f"Bearer {key}"}, timeout=30)
            answered.append(reply.json()["conversation_uuid"])

    for _ in range(10):
        server = installation.start("serve", "--port", str(port))
        wait_until(lambda: is_up(port))
        ask()  # the first takes long: what calls a provider is loaded then
        killer = subprocess.Popen(["sh", "-c", f"sleep {chance.random()}; kill -9 {server.pid}"])
        while server.poll() is None:
            ask()
        killer.wait()
        assert server.wait(10) == -signal.SIGKILL
    assert len(answered) > 20
    stored = {row[0] for row in installation.rows("SELECT message_id FROM logs_message")}
    payloads = [json.loads(row[0]) for row in installation.rows("SELECT payload FROM logs_webhookdelivery")]
    told = Counter(event["data"]["message_id"] for event in payloads)
    assert told == Counter(stored)
    assert set(answered) <= {event["conversation_uuid"] for event in payloads}  # who was answered is in the log
    installation.python("WebhookDelivery.objects.exclude(lease='').update(leased_until=timezone.now())")
    installation.start("worker")
    wait_until(lambda: installation.states() == {"done": len(payloads)})
    received = {sent.json["data"]["message_id"] for sent in upstream.sent if sent.path == "/hook"}
    assert received == stored


def is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health/ready", timeout=1).ok
    except requests.RequestException:
        return False
