"""Uploads indexed by workers that are killed: nothing is lost, nothing is stored twice."""

import os
import random
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.providers_on_loopback import Upstream, running
from tests.puffer.test_serve import POSTGRES
from tests.puffer.test_worker import Work, wait_until
from tests.vectorstores.test_import_interrupted import fast_embedding

pytestmark = pytest.mark.slow

UPLOADS, ROWS = 200, 10
QUEUE = f"""
from vectorstores.ingest import Destination
from vectorstores.uploads import queue
here = Destination("local", "kb", "openai", "emb-1")
for number in range({UPLOADS}):
    rows = [f"{{number}}-{{row}}," + "some more words " * (500 if row == 0 else 3) for row in range({ROWS})]
    queue(here, "file", f"{{number}}.csv", "\\n".join(["id,content", *rows]).encode())
"""


@dataclass
class Uploads(Work):
    upstream: Upstream | None = None

    @property
    def environment(self) -> dict[str, str]:
        assert self.upstream
        own = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        return own | {
            "PUFFER_ENV_FILE": "/nonexistent",
            "SECRET_KEY": "only-for-tests",
            "DATABASE_URL": self.database_url,
            "OPENAI_API_KEY": "sk-0123456789",
            "OPENAI_BASE_URL": f"{self.upstream.url}/v1",
        }

    def states(self) -> dict[str, int]:
        return dict(self.rows("SELECT state, count(*) FROM vectorstores_upload GROUP BY state"))


@pytest.fixture(params=["sqlite", "postgres"])
def work(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Uploads]:
    server, name = None, f"puffer_uploads_{secrets.token_hex(4)}"
    url = f"sqlite:///{tmp_path}/puffer.sqlite3"
    if request.param == "postgres":
        try:
            server = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
        except psycopg.OperationalError:
            pytest.skip("no PostgreSQL server here")
        server.execute(f"CREATE DATABASE {name}")
        url = f"{POSTGRES.rpartition('/')[0]}/{name}"
    with running() as upstream:
        upstream.pages["/v1/embeddings"] = fast_embedding
        work = Uploads(tmp_path, url, upstream=upstream)
        try:
            work.manage("migrate", "--verbosity=0")
            yield work
        finally:
            for process in work.processes:
                process.kill()
                process.wait()
            if server:
                server.execute(f"DROP DATABASE {name} WITH (FORCE)")
                server.close()


def test_workers_that_are_killed_lose_nothing_and_store_nothing_twice(work):
    chance = random.Random(time.time_ns())
    work.manage("shell", "--no-imports", "-c", QUEUE)
    workers = [work.start("worker") for _ in range(2)]
    killed = 0
    while killed < 10 and work.states().get("done", 0) < UPLOADS:
        time.sleep(2 + 2 * chance.random())
        at = killed % 2
        workers[at].kill()
        assert workers[at].wait(10) == -signal.SIGKILL
        killed += 1
        workers[at] = work.start("worker")
    interrupted = work.value("SELECT count(*) FROM vectorstores_upload WHERE attempts > 1 OR leased_until IS NOT NULL")
    wait_until(lambda: work.states() == {"done": UPLOADS}, 240)

    sums = "count(*), min(documents), max(documents), sum(chunks), sum(chunks_done), sum(refused)"
    chunks = UPLOADS * (ROWS + 1)  # of each file the first row has two
    assert work.rows(f"SELECT {sums} FROM vectorstores_upload") == [(UPLOADS, ROWS, ROWS, chunks, chunks, 0)]
    stored = work.rows("SELECT count(*), count(DISTINCT vector_id) FROM vectorstores_localvector")
    assert stored == [(chunks, chunks)]
    documents = work.rows(
        "SELECT count(*), count(DISTINCT parent_vector_id), sum(chunks) FROM vectorstores_document"
        " WHERE status = 'stored'"
    )
    assert documents == [(UPLOADS * ROWS, UPLOADS * ROWS, chunks)]
    assert work.value("SELECT count(*) FROM vectorstores_uploadcontent") == 0
    assert interrupted  # else nothing was tested
