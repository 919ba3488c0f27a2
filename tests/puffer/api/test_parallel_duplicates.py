"""Idempotency keys with several server processes: parallel duplicates, and a server that is killed during a call."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.support.installation import QUESTION, Server, answers, serving, wait_until
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import Connection, Upstream, answering, running, stalling

pytestmark = pytest.mark.slow

COMPLETIONS = "/v1/chat/completions"
KEY = "puf-for-this-test-only-0123456789"


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with running() as upstream, serving(tmp_path, upstream, request.param, PUFFER_API_KEY=KEY) as server:
        yield server


def call(server: Server) -> requests.Response:
    headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "the same"}
    return requests.post(f"{server.url}/wp-json/aipkit/v1/generate", json=QUESTION, headers=headers, timeout=30)


def sent_to(upstream: Upstream) -> int:
    return sum(request.path == COMPLETIONS for request in upstream.sent)


def test_a_hundred_parallel_duplicates_make_one_call(server):
    def answer_slowly(connection: Connection) -> None:
        time.sleep(0.5)
        answering(CHAT_COMPLETION)(connection)

    server.upstream.pages[COMPLETIONS] = answer_slowly
    with ThreadPoolExecutor(50) as pool:
        responses = list(pool.map(lambda _: call(server), range(100)))
    counts = Counter(response.status_code for response in responses)
    assert counts.keys() <= {200, 409}
    assert counts[200] >= 1
    assert sent_to(server.upstream) == 1
    assert {response.json()["code"] for response in responses if response.status_code == 409} <= {
        "idempotency_key_in_use"
    }
    made = [response for response in responses if response.ok and "idempotent-replayed" not in response.headers]
    assert len(made) == 1
    again = call(server)
    assert (again.content, again.headers["idempotent-replayed"]) == (made[0].content, "true")
    wait_until(lambda: server.value("SELECT count(*) FROM logs_usageevent") == 1)


def test_a_killed_server_frees_the_key(server):
    server.upstream.pages[COMPLETIONS] = stalling(b"")
    with ThreadPoolExecutor() as pool:
        pool.submit(suppressed, server)
        wait_until(lambda: sent_to(server.upstream) == 1)
        for pid in children_of(server.process.pid):
            os.kill(pid, signal.SIGKILL)
        server.process.kill()
        server.process.wait()
    server.upstream.pages[COMPLETIONS] = answering(CHAT_COMPLETION)
    server.serve()
    wait_until(lambda: answers(server.url))
    assert call(server).status_code == 409
    server.rows("UPDATE puffer_idempotentcall SET valid_until = '2020-01-01 00:00:00+00:00'")  # minutes later
    assert call(server).status_code == 200
    assert call(server).headers["idempotent-replayed"] == "true"
    assert sent_to(server.upstream) == 2


def suppressed(server: Server) -> None:
    with suppress(requests.RequestException):
        call(server)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
