"""The server and the worker are killed while both are busy: no work is lost or repeated, every webhook arrives.

The server stores the files uploaded in the admin and the webhook deliveries of each turn as jobs for the worker.
"""

import json
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests

from tests.support.installation import Installation, answers, free_port, wait_until
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import Behavior, Connection, Upstream, answering, fast_embedding, running

pytestmark = pytest.mark.slow

UPLOADS, TURNS = 60, 30  # before the first kill; a turn publishes two events
MORE = 150  # at most so many further uploads and turns between the kills
ROWS = 10  # in a file
CHUNKS = ROWS + 1  # in a file: its first row has two
PARALLEL_DELIVERIES = 4  # of one worker
EMBEDDINGS = "/v1/embeddings"
JOB_TABLES = ("vectorstores_upload", "logs_webhookdelivery")
SETUP = """
from django.contrib.auth import get_user_model
from chatbots.models import Chatbot
from logs.webhooks.models import EventName, Webhook
from providers.models import ProviderConfig
get_user_model().objects.create_superuser("owner", password="correct horse")
ProviderConfig.objects.filter(slug="openai").update(default_embedding_model="emb-1")
Chatbot.objects.create(name="Shop", provider="openai", model="gpt-4o-mini", status="published")
Webhook.objects.create(name="all", url="{hook}", events=EventName.values)
"""


def delayed(seconds: float, answer: Behavior) -> Behavior:
    """Delay the answer, so that kills interrupt requests in flight."""

    def behave(connection: Connection) -> None:
        time.sleep(seconds)
        with suppress(OSError):  # the caller was killed
            answer(connection)

    return behave


@dataclass
class Clients:
    """An owner who uploads files in the admin, and a caller of the API who asks a chatbot."""

    url: str
    key: str
    uploaded: list[str] = field(default_factory=list)  # the names of the files
    answered: list[str] = field(default_factory=list)  # the conversations of the questions
    session: requests.Session = field(default_factory=requests.Session)

    def begin(self) -> None:
        """Sign in, and fill the worker's queue."""
        self.session.get(f"{self.url}/admin/login/", timeout=30)
        response = self.post("/admin/login/?next=/admin/", username="owner", password="correct horse")
        assert response.status_code == 302, response.text
        self.upload(*(f"{number}.csv" for number in range(UPLOADS)))  # in one form: the admin's limit is 100
        with ThreadPoolExecutor(4) as pool:
            for _ in range(TURNS):
                pool.submit(self.ask)

    def post(self, path: str, files: Any = None, **form: str) -> requests.Response:
        form["csrfmiddlewaretoken"] = self.session.cookies["csrftoken"]
        return self.session.post(f"{self.url}{path}", form, files=files, allow_redirects=False, timeout=30)

    def upload(self, *names: str) -> None:
        """Retry until the server has accepted the files."""
        wait_until(lambda: self.try_upload(names))
        self.uploaded += names

    def try_upload(self, names: Iterable[str]) -> bool:
        form = {"kind": "file", "new_collection": "kb", "embedding": "openai/emb-1"}
        form |= {"pairs-TOTAL_FORMS": "3", "pairs-INITIAL_FORMS": "0"}
        files = [("uploads", (name, rows_of(name))) for name in names]
        try:
            response = self.post("/admin/vectorstores/upload/add/", files, **form)
        except requests.RequestException:
            return False
        assert response.status_code == 302, response.text
        return True

    def ask(self) -> None:
        """Ask without a retry: if no answer comes, the caller cannot know whether the question was stored."""
        question = {"messages": [{"role": "user", "content": "Do you sell shoes?"}]}
        headers = {"Authorization": f"Bearer {self.key}"}
        with suppress(requests.RequestException):
            reply = requests.post(
                f"{self.url}/wp-json/aipkit/v1/chat/1/message", json=question, headers=headers, timeout=30
            )
            self.answered.append(reply.json()["conversation_uuid"])

    @contextmanager
    def kept_busy(self) -> Iterator[None]:
        """Keep uploading and asking in two threads while the block runs."""
        stop = threading.Event()

        def upload() -> None:
            for number in range(UPLOADS, UPLOADS + MORE):
                self.upload(f"{number}.csv")
                if stop.wait(0.2):
                    return

        def ask() -> None:
            for _ in range(MORE):
                self.ask()
                if stop.wait(0.1):
                    return

        with ThreadPoolExecutor() as pool:
            work = [pool.submit(upload), pool.submit(ask)]
            try:
                yield
            finally:
                stop.set()
        for done in work:
            done.result()


def rows_of(name: str) -> str:
    rows = [
        f"{name}-{row},Row {row} of {name}: " + "some more words " * (500 if row == 0 else 3) for row in range(ROWS)
    ]
    return "\n".join(["id,content", *rows])


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Yield a server that plays the provider and receives the webhooks."""
    with running() as upstream:
        upstream.serves("/v1/chat/completions", CHAT_COMPLETION)
        upstream.pages[EMBEDDINGS] = delayed(0.15, fast_embedding)
        upstream.pages["/hook"] = delayed(1, answering(b""))
        yield upstream


@pytest.fixture(params=["sqlite", "postgresql"])
def installation(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Installation]:
    provider = {"OPENAI_API_KEY": "sk-0123456789", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
    with Installation.new(tmp_path, request.param, **provider, PRIVATE_HOST_ALLOWLIST="127.0.0.1") as installation:
        installation.python(SETUP.format(hook=f"{upstream.url}/hook"))
        yield installation


def count_calls(upstream: Upstream, path: str) -> int:
    return sum(sent.path == path for sent in upstream.sent)


def embedding_counts(upstream: Upstream) -> Counter[str]:
    """Return how often each file was embedded, counted by its last row."""
    texts = (text for sent in upstream.sent if sent.path == EMBEDDINGS for text in sent.json["input"])
    return Counter(found[1] for text in texts if (found := re.search(rf"Row {ROWS - 1} of (\S+):", text)))


def delivery_counts(upstream: Upstream) -> Counter[UUID]:
    """Return how often each webhook delivery was received."""
    return Counter(UUID(sent.headers["X-AIPKit-Delivery-Id"]) for sent in upstream.sent if sent.path == "/hook")


@dataclass(frozen=True)
class Snapshot:
    """The work recorded as done, the requests received so far, and the number of interrupted jobs."""

    files: set[str]
    embedding_counts: Counter[str]
    deliveries: set[UUID]
    delivery_counts: Counter[UUID]
    interrupted: int


def take_snapshot(installation: Installation, upstream: Upstream) -> Snapshot:
    files = installation.rows("SELECT name FROM vectorstores_upload WHERE state = 'done'")
    deliveries = installation.rows("SELECT delivery_id FROM logs_webhookdelivery WHERE state = 'done'")
    return Snapshot(
        {name for (name,) in files},
        embedding_counts(upstream),
        {UUID(str(delivery)) for (delivery,) in deliveries},
        delivery_counts(upstream),
        sum(installation.value(f"SELECT count(*) FROM {table} WHERE lease <> ''") for table in JOB_TABLES),
    )


def count_waiting(installation: Installation) -> list[int]:
    """Return the numbers of waiting uploads and waiting deliveries."""
    return [installation.value(f"SELECT count(*) FROM {table} WHERE state = 'waiting'") for table in JOB_TABLES]


def expire_leases(installation: Installation) -> None:
    """Expire the leases of killed processes, which last 30 to 60 s; test_worker.py waits for one to expire."""
    for table in JOB_TABLES:
        installation.rows(f"UPDATE {table} SET leased_until = due_at WHERE lease <> ''")


def test_killed_processes_neither_lose_nor_repeat_work(installation, upstream):
    rng = random.Random(time.time_ns())
    kills = 3 if installation.database_url.startswith("sqlite") else 2  # PostgreSQL only claims jobs differently
    port = free_port()
    serve = ("serve", "--no-worker", "--port", str(port))
    clients = Clients(f"http://127.0.0.1:{port}", installation.manage("create_api_key", "caller").split()[-1])
    installation.start(*serve)
    wait_until(lambda: answers(clients.url))
    clients.begin()
    assert count_waiting(installation) == [UPLOADS, 2 * TURNS]

    snapshots: list[Snapshot] = []
    with clients.kept_busy():
        for _ in range(kills):
            calls = count_calls(upstream, EMBEDDINGS) + rng.randint(1, 8)
            installation.start("worker")
            wait_until(lambda: count_calls(upstream, EMBEDDINGS) >= calls and answers(clients.url))  # noqa: B023
            time.sleep(rng.random() * 0.3)
            for process in rng.sample(installation.processes, 2):
                process.kill()
                assert process.wait(10) == -signal.SIGKILL
                time.sleep(rng.random() * 0.1)
            installation.processes.clear()
            snapshots.append(take_snapshot(installation, upstream))
            expire_leases(installation)
            installation.start(*serve)
    upstream.pages |= {EMBEDDINGS: fast_embedding, "/hook": answering(b"")}
    for _ in range(2):
        installation.start("worker")
    wait_until(lambda: count_waiting(installation) == [0, 0], 600)  # about 10 s on an idle machine

    assert_uploads_are_stored_once(installation, clients.uploaded)
    assert_turns_are_logged_and_published(installation, clients.answered)
    assert_deliveries_have_arrived(installation, upstream)
    final_embedding_counts, final_delivery_counts = embedding_counts(upstream), delivery_counts(upstream)
    for snapshot in snapshots:  # work recorded as done is not repeated
        assert pick(final_embedding_counts, snapshot.files) == pick(snapshot.embedding_counts, snapshot.files)
        assert pick(final_delivery_counts, snapshot.deliveries) == pick(snapshot.delivery_counts, snapshot.deliveries)
    # Each kill interrupts at most one upload and four deliveries; a retried upload form cancels one more upload.
    assert final_embedding_counts.total() - len(final_embedding_counts) <= 2 * kills
    assert final_delivery_counts.total() - len(final_delivery_counts) <= PARALLEL_DELIVERIES * kills
    assert sum(snapshot.interrupted for snapshot in snapshots) > kills  # otherwise the kills tested nothing


def pick(counts: Counter[Any], keys: set[Any]) -> dict[Any, int]:
    return {key: counts[key] for key in keys}


def assert_uploads_are_stored_once(installation: Installation, names: list[str]) -> None:
    assert len(names) == len(set(names)) > UPLOADS
    files, chunks = len(names), len(names) * CHUNKS
    finished = "FROM vectorstores_upload WHERE state = 'done'"
    assert installation.value(f"SELECT count(DISTINCT name) {finished}") == files
    assert installation.rows(f"SELECT DISTINCT documents, chunks, chunks_done, refused {finished}") == [
        (ROWS, CHUNKS, CHUNKS, 0)
    ]
    cancelled = "SELECT DISTINCT last_error FROM vectorstores_upload WHERE state <> 'done'"
    assert installation.rows(cancelled) in ([], [("Cancelled.",)])  # replaced by the same file, uploaded again
    stored = installation.rows("SELECT count(*), count(DISTINCT vector_id) FROM vectorstores_localvector")
    assert stored == [(chunks, chunks)]
    documents = "SELECT count(*), count(DISTINCT parent_vector_id), sum(chunks) FROM vectorstores_document"
    assert installation.rows(f"{documents} WHERE status = 'stored'") == [(files * ROWS, files * ROWS, chunks)]
    assert installation.value("SELECT count(*) FROM vectorstores_uploadcontent") == 0


def assert_turns_are_logged_and_published(installation: Installation, answered: list[str]) -> None:
    """Check that answered questions are in the log, and that each message has exactly one event."""
    assert len(answered) > TURNS
    stored = [message for (message,) in installation.rows("SELECT message_id FROM logs_message")]
    payloads = [json.loads(payload) for (payload,) in installation.rows("SELECT payload FROM logs_webhookdelivery")]
    assert Counter(payload["data"]["message_id"] for payload in payloads) == Counter(stored)
    assert set(answered) <= {payload["conversation_uuid"] for payload in payloads}
    assert installation.value("SELECT sum(messages) FROM logs_conversationdailytotal") == len(stored)


def assert_deliveries_have_arrived(installation: Installation, upstream: Upstream) -> None:
    """Check that every attempt of a delivery carried the same ids and the same body."""
    columns = "delivery_id, event_id, payload, attempts"
    rows = installation.rows(f"SELECT {columns} FROM logs_webhookdelivery WHERE state = 'done'")
    expected = {(UUID(str(delivery)), UUID(str(event)), payload) for delivery, event, payload, _ in rows}
    hooks = [sent for sent in upstream.sent if sent.path == "/hook"]
    names = ("X-AIPKit-Delivery-Id", "X-AIPKit-Event-Id")
    assert {(*(UUID(sent.headers[name]) for name in names), sent.body.decode()) for sent in hooks} == expected
    assert {sent.headers["X-AIPKit-Idempotency-Key"] for sent in hooks} == {str(event) for _, event, _ in expected}
    counts = delivery_counts(upstream)
    assert all(counts[UUID(str(delivery))] <= attempts for delivery, _, _, attempts in rows)
