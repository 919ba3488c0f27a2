"""The server and the worker, killed while both are busy: nothing is lost, nothing is done twice, every webhook arrives.

files uploaded in the admin, questions asked -> the server -> uploads and webhook deliveries -> the worker
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
from tests.support.providers import CHAT_COMPLETION
from tests.support.upstream import Behaviour, Connection, Upstream, answering, fast_embedding, running

pytestmark = pytest.mark.slow

UPLOADS, TURNS = 100, 60  # before the first kill; a turn is two events
MORE = 150  # of each at most, while they are killed
AT_ONCE = 100  # files that the admin takes
ROWS = 10
CHUNKS = ROWS + 1  # the first row of a file has two
SENDING_AT_ONCE = 4  # deliveries, by a worker
EMBEDDINGS = "/v1/embeddings"
WORK = ("vectorstores_upload", "logs_webhookdelivery")
PREPARED = """
from django.contrib.auth import get_user_model
from chatbots.models import Chatbot
from logs.webhooks.models import EventName, Webhook
from providers.models import ProviderConfig
get_user_model().objects.create_superuser("owner", password="correct horse")
ProviderConfig.objects.filter(slug="openai").update(default_embedding_model="emb-1")
Chatbot.objects.create(name="Shop", provider="openai", model="gpt-4o-mini", status="published")
Webhook.objects.create(name="all", url="{hook}", events=EventName.values)
"""


def slowly(seconds: float, answer: Behaviour) -> Behaviour:
    """They take their time, so that kills fall into the middle of what waits for them."""

    def behave(connection: Connection) -> None:
        time.sleep(seconds)
        with suppress(OSError):  # whoever called was killed
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
        """Sign in, and leave the worker much to do."""
        self.session.get(f"{self.url}/admin/login/", timeout=30)
        response = self.post("/admin/login/?next=/admin/", username="owner", password="correct horse")
        assert response.status_code == 302, response.text
        for first in range(0, UPLOADS, AT_ONCE):
            self.upload(*(f"{number}.csv" for number in range(first, first + AT_ONCE)))
        with ThreadPoolExecutor(4) as pool:
            for _ in range(TURNS):
                pool.submit(self.ask)

    def post(self, path: str, files: Any = None, **form: str) -> requests.Response:
        form["csrfmiddlewaretoken"] = self.session.cookies["csrftoken"]
        return self.session.post(f"{self.url}{path}", form, files=files, allow_redirects=False, timeout=30)

    def upload(self, *names: str) -> None:
        """Again and again, until the server has said that it has them."""
        wait_until(lambda: self.has_taken(names))
        self.uploaded += names

    def has_taken(self, names: Iterable[str]) -> bool:
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
        """Once: whether a question whose answer did not come was stored, its caller can't know."""
        question = {"messages": [{"role": "user", "content": "Do you sell shoes?"}]}
        headers = {"Authorization": f"Bearer {self.key}"}
        with suppress(requests.RequestException):
            reply = requests.post(
                f"{self.url}/wp-json/aipkit/v1/chat/1/message", json=question, headers=headers, timeout=30
            )
            self.answered.append(reply.json()["conversation_uuid"])

    @contextmanager
    def at_it(self) -> Iterator[None]:
        """Both go on while the block runs."""
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
    """The provider, and the receiver of webhooks."""
    with running() as upstream:
        upstream.serves("/v1/chat/completions", CHAT_COMPLETION)
        upstream.pages[EMBEDDINGS] = slowly(0.15, fast_embedding)
        upstream.pages["/hook"] = slowly(1, answering(b""))
        yield upstream


@pytest.fixture(params=["sqlite", "postgresql"])
def installation(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Installation]:
    provider = {"OPENAI_API_KEY": "sk-0123456789", "OPENAI_BASE_URL": f"{upstream.url}/v1"}
    with Installation.new(tmp_path, request.param, **provider, PRIVATE_HOST_ALLOWLIST="127.0.0.1") as installation:
        installation.python(PREPARED.format(hook=f"{upstream.url}/hook"))
        yield installation


def calls_of(upstream: Upstream, path: str) -> int:
    return sum(sent.path == path for sent in upstream.sent)


def embedded(upstream: Upstream) -> Counter[str]:
    """How often each file was: its last row stands for it."""
    texts = (text for sent in upstream.sent if sent.path == EMBEDDINGS for text in sent.json["input"])
    return Counter(found[1] for text in texts if (found := re.search(rf"Row {ROWS - 1} of (\S+):", text)))


def received(upstream: Upstream) -> Counter[UUID]:
    """How often each delivery was."""
    return Counter(UUID(sent.headers["X-AIPKit-Delivery-Id"]) for sent in upstream.sent if sent.path == "/hook")


@dataclass(frozen=True)
class Moment:
    """What was written down as done, how often things had gone out by then, and what was broken off."""

    files: set[str]
    embedded: Counter[str]
    deliveries: set[UUID]
    received: Counter[UUID]
    broken_off: int


def look(installation: Installation, upstream: Upstream) -> Moment:
    files = installation.rows("SELECT name FROM vectorstores_upload WHERE state = 'done'")
    deliveries = installation.rows("SELECT delivery_id FROM logs_webhookdelivery WHERE state = 'done'")
    return Moment(
        {name for (name,) in files},
        embedded(upstream),
        {UUID(str(delivery)) for (delivery,) in deliveries},
        received(upstream),
        sum(installation.value(f"SELECT count(*) FROM {table} WHERE lease <> ''") for table in WORK),
    )


def waiting(installation: Installation) -> list[int]:
    """Uploads, deliveries."""
    return [installation.value(f"SELECT count(*) FROM {table} WHERE state = 'waiting'") for table in WORK]


def end_leases(installation: Installation) -> None:
    """Those of the dead, which end by themselves in half a minute or a whole one: test_worker.py waits for that."""
    for table in WORK:
        installation.rows(f"UPDATE {table} SET leased_until = due_at WHERE lease <> ''")


def test_killed_at_any_moment_they_lose_nothing_and_do_nothing_twice(installation, upstream):
    chance = random.Random(time.time_ns())
    kills = 5 if installation.database_url.startswith("sqlite") else 3  # with PostgreSQL only the claims differ
    port = free_port()
    serve = ("serve", "--no-worker", "--port", str(port))
    clients = Clients(f"http://127.0.0.1:{port}", installation.manage("create_api_key", "caller").split()[-1])
    installation.start(*serve)
    wait_until(lambda: answers(clients.url))
    clients.begin()
    assert waiting(installation) == [UPLOADS, 2 * TURNS]

    moments: list[Moment] = []
    with clients.at_it():
        for _ in range(kills):
            calls = calls_of(upstream, EMBEDDINGS) + chance.randint(1, 8)
            installation.start("worker")
            wait_until(lambda: calls_of(upstream, EMBEDDINGS) >= calls and answers(clients.url))  # noqa: B023
            time.sleep(chance.random() * 0.3)
            for process in chance.sample(installation.processes, 2):
                process.kill()
                assert process.wait(10) == -signal.SIGKILL
                time.sleep(chance.random() * 0.1)
            installation.processes.clear()
            moments.append(look(installation, upstream))
            end_leases(installation)
            installation.start(*serve)
    upstream.pages |= {EMBEDDINGS: fast_embedding, "/hook": answering(b"")}
    for _ in range(2):
        installation.start("worker")
    wait_until(lambda: waiting(installation) == [0, 0], 600)  # about ten seconds, if nobody else wants the processors

    uploads_are_stored_once(installation, clients.uploaded)
    turns_are_told_of(installation, clients.answered)
    deliveries_have_arrived(installation, upstream)
    finally_embedded, finally_received = embedded(upstream), received(upstream)
    for moment in moments:  # what was noted as done is not done again
        assert pick(finally_embedded, moment.files) == pick(moment.embedded, moment.files)
        assert pick(finally_received, moment.deliveries) == pick(moment.received, moment.deliveries)
    # One upload and four deliveries were under way at a kill; and one upload gives way to the same sent again.
    assert finally_embedded.total() - len(finally_embedded) <= 2 * kills
    assert finally_received.total() - len(finally_received) <= SENDING_AT_ONCE * kills
    assert sum(moment.broken_off for moment in moments) > kills  # else the kills tested nothing


def pick(counts: Counter[Any], keys: set[Any]) -> dict[Any, int]:
    return {key: counts[key] for key in keys}


def uploads_are_stored_once(installation: Installation, names: list[str]) -> None:
    assert len(names) == len(set(names)) > UPLOADS
    files, chunks = len(names), len(names) * CHUNKS
    finished = "FROM vectorstores_upload WHERE state = 'done'"
    assert installation.value(f"SELECT count(DISTINCT name) {finished}") == files
    assert installation.rows(f"SELECT DISTINCT documents, chunks, chunks_done, refused {finished}") == [
        (ROWS, CHUNKS, CHUNKS, 0)
    ]
    given_way = "SELECT DISTINCT last_error FROM vectorstores_upload WHERE state <> 'done'"
    assert installation.rows(given_way) in ([], [("Cancelled.",)])  # to the same, sent again
    stored = installation.rows("SELECT count(*), count(DISTINCT vector_id) FROM vectorstores_localvector")
    assert stored == [(chunks, chunks)]
    documents = "SELECT count(*), count(DISTINCT parent_vector_id), sum(chunks) FROM vectorstores_document"
    assert installation.rows(f"{documents} WHERE status = 'stored'") == [(files * ROWS, files * ROWS, chunks)]
    assert installation.value("SELECT count(*) FROM vectorstores_uploadcontent") == 0


def turns_are_told_of(installation: Installation, answered: list[str]) -> None:
    """Who was answered is in the log; no message without its event, no event without its message."""
    assert len(answered) > TURNS
    stored = [message for (message,) in installation.rows("SELECT message_id FROM logs_message")]
    payloads = [json.loads(payload) for (payload,) in installation.rows("SELECT payload FROM logs_webhookdelivery")]
    assert Counter(payload["data"]["message_id"] for payload in payloads) == Counter(stored)
    assert set(answered) <= {payload["conversation_uuid"] for payload in payloads}
    assert installation.value("SELECT sum(messages) FROM logs_conversationdailytotal") == len(stored)


def deliveries_have_arrived(installation: Installation, upstream: Upstream) -> None:
    """Each under its own ids, with the same body each time."""
    columns = "delivery_id, event_id, payload, attempts"
    rows = installation.rows(f"SELECT {columns} FROM logs_webhookdelivery WHERE state = 'done'")
    told = {(UUID(str(delivery)), UUID(str(event)), payload) for delivery, event, payload, _ in rows}
    hooks = [sent for sent in upstream.sent if sent.path == "/hook"]
    names = ("X-AIPKit-Delivery-Id", "X-AIPKit-Event-Id")
    assert {(*(UUID(sent.headers[name]) for name in names), sent.body.decode()) for sent in hooks} == told
    assert {sent.headers["X-AIPKit-Idempotency-Key"] for sent in hooks} == {str(event) for _, event, _ in told}
    counts = received(upstream)
    assert all(counts[UUID(str(delivery))] <= attempts for delivery, _, _, attempts in rows)
