"""Deliveries by `manage.py worker` as processes: slow receivers, and machines whose clocks differ."""

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.installation import Installation, wait_until
from tests.support.upstream import Connection, Upstream, answering, running

pytestmark = pytest.mark.slow

WEBHOOK = """
import uuid
from logs.webhooks.models import EventName, Webhook, WebhookDelivery
webhook = Webhook.objects.create(name="{name}", url="{url}", events=EventName.values)
WebhookDelivery.objects.bulk_create(
    WebhookDelivery(webhook=webhook, event="x", event_id=uuid.uuid4(), payload="1") for _ in range({count})
)
"""


@pytest.fixture
def receiver() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


def queue(installation: Installation, name: str, url: str, count: int) -> None:
    installation.python(WEBHOOK.format(name=name, url=url, count=count))


def test_a_slow_receiver_delays_no_other(tmp_path, receiver):
    quick_has_arrived, at_once, most_at_once = threading.Event(), Counter[str](), 0

    def slow(connection: Connection) -> None:
        nonlocal most_at_once
        at_once["slow"] += 1
        most_at_once = max(most_at_once, at_once["slow"])
        quick_has_arrived.wait(10)
        at_once["slow"] -= 1
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def quick(connection: Connection) -> None:
        if at_once["slow"]:
            quick_has_arrived.set()
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    receiver.pages |= {"/slow": slow, "/quick": quick}
    with Installation.new(tmp_path, PRIVATE_HOST_ALLOWLIST="127.0.0.1") as installation:
        queue(installation, "slow", f"{receiver.url}/slow", 20)
        installation.start("worker")
        wait_until(lambda: at_once["slow"] > 0)
        queue(installation, "quick", f"{receiver.url}/quick", 50)
        wait_until(quick_has_arrived.is_set, 10)
        assert most_at_once == 1
        # It proves fast from now on, and gets more than one thread and several deliveries at a time.
        done = "SELECT count(*) FROM logs_webhookdelivery WHERE state = 'done'"
        wait_until(lambda: installation.value(done) == 70, 60)
        assert installation.rows("SELECT DISTINCT attempts FROM logs_webhookdelivery") == [(1,)]


def test_workers_whose_clocks_differ_send_everything_once(tmp_path, receiver):
    def slowly(connection: Connection) -> None:
        time.sleep(0.2)
        answering(b"")(connection)

    receiver.pages["/hook"] = slowly
    with Installation.new(tmp_path, "postgresql", PRIVATE_HOST_ALLOWLIST="127.0.0.1") as installation:
        installation.variables["DJANGO_SETTINGS_MODULE"] = "tests.support.settings.wrong_clock"
        installation.variables["CLOCK_AHEAD"] = "0"
        queue(installation, "all", f"{receiver.url}/hook", 20)
        for seconds in (-120, 120):
            installation.variables["CLOCK_AHEAD"] = str(seconds)
            installation.start("worker")
        done = "SELECT count(*) FROM logs_webhookdelivery WHERE state = 'done'"
        wait_until(lambda: installation.value(done) == 20, 60)
        assert len(receiver.sent) == 20
        assert installation.rows("SELECT DISTINCT attempts FROM logs_webhookdelivery") == [(1,)]
