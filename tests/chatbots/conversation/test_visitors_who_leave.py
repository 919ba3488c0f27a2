"""A visitor closes the page or presses stop: the provider call is canceled, the partial answer logged and counted."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support.installation import Server, serving, wait_until
from tests.support.providers.answers import CHAT_END, chat_chunk
from tests.support.upstream import Upstream, running

pytestmark = pytest.mark.slow

SHOP = "https://shop.example"
STREAMS = 200


class SlowWriter(Upstream):
    """A provider that streams 40 pieces, one every 50 ms, and counts the answers it is writing."""

    def forget(self) -> None:
        super().forget()
        self.lock = threading.Lock()
        self.writing = 0
        self.most = 0

    def behaviour_for(self, path: str):
        def behave(connection) -> None:
            with self.lock:
                self.writing += 1
                self.most = max(self.most, self.writing)
            try:
                connection.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                for number in range(40):
                    connection.write(chat_chunk({"content": f"piece {number} "}))
                    time.sleep(0.05)
                connection.write(b"".join(CHAT_END))
            except ConnectionError:
                pass
            finally:
                with self.lock:
                    self.writing -= 1
                connection.close_connection = True

        return behave


@pytest.fixture(scope="module")
def upstream() -> Iterator[SlowWriter]:
    with running(SlowWriter()) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: SlowWriter) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("leaving"), upstream) as server:
        server.python(
            "from chatbots.models import Chatbot;"
            "Chatbot.objects.create(name='Shop', provider='openai', model='m', embed_allowed_domains=['shop.example'],"
            " messages_per_minute=None, messages_per_minute_per_address=None, messages_per_day=None,"
            " token_guest_limit=10**9)"
        )
        yield server


def new_visitor_token(server: Server) -> str:
    answer = requests.post(f"{widget_url(server)}/session", json={}, headers={"Origin": SHOP}, timeout=10)
    return answer.json()["token"]


def widget_url(server: Server) -> str:
    return f"{server.url}/wp-json/aipkit/v1/chatbots/1"


def stream(server: Server, token: str) -> requests.Response:
    return requests.post(
        f"{widget_url(server)}/stream",
        json={"message": "Tell me a long story"},
        headers={"Origin": SHOP, "Authorization": f"Visitor {token}"},
        stream=True,
        timeout=60,
    )


def row_counts(server: Server) -> dict[str, int]:
    answers = "FROM logs_message WHERE role = 'bot'"
    counts = {
        "turns": answers,
        "canceled_turns": f"{answers} AND error <> ''",
        "calls": "FROM logs_usageevent",
        "canceled_calls": "FROM logs_usageevent WHERE status = 499",
        "calls_without_usage": "FROM logs_usageevent WHERE total_tokens IS NULL",
        "allowances": "FROM chatbots_tokenallowance WHERE used > 0 AND visitor NOT LIKE 'network:%'",
    }
    return {name: server.value(f"SELECT count(*) {rows}") for name, rows in counts.items()}


def increased(before: dict[str, int], **by: int) -> dict[str, int]:
    return {name: count + by.get(name, 0) for name, count in before.items()}


def test_leaving_cancels_the_provider_call_within_a_second(server, upstream):
    before = row_counts(server)
    with stream(server, new_visitor_token(server)) as response:
        lines = response.iter_lines()
        while not next(lines).startswith(b"event: delta"):
            pass
        assert upstream.writing == 1
        response.close()
    wait_until(lambda: upstream.writing == 0, 1.0)
    expected = increased(before, turns=1, canceled_turns=1, calls=1, canceled_calls=1, allowances=1)
    wait_until(lambda: row_counts(server) == expected, 5)
    reply = server.value("SELECT content FROM logs_message WHERE role = 'bot' ORDER BY id DESC LIMIT 1")
    assert reply.startswith("piece 0 ")
    assert "piece 39" not in reply


def test_half_of_many_concurrent_streams_are_abandoned(server, upstream):
    before = row_counts(server)
    ended = []

    def read(number: int) -> None:
        with stream(server, new_visitor_token(server)) as response:
            for line in response.iter_lines():
                if number % 2 and line.startswith(b"event: delta"):
                    return
                if line.startswith(b"event: done"):
                    ended.append(number)

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(read, range(STREAMS)))
    wait_until(lambda: upstream.writing == 0, 2.0)
    assert upstream.most > 20
    assert len(ended) == STREAMS // 2
    half = STREAMS // 2
    expected = increased(
        before, turns=STREAMS, canceled_turns=half, calls=STREAMS, canceled_calls=half, allowances=STREAMS
    )
    wait_until(lambda: row_counts(server) == expected, 10)
