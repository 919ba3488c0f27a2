"""A webhook and its receiver."""

import pytest

from logs.webhooks.models import EventName, Webhook
from tests.support.upstream import running
from tests.support.webhooks import HOST


@pytest.fixture(scope="module")
def receiver_server():
    with running() as server:
        yield server


@pytest.fixture
def receiver(receiver_server, settings):
    receiver_server.forget()
    receiver_server.serves("/hook", b"thanks")
    settings.PRIVATE_HOST_ALLOWLIST = [HOST]
    settings.WORKER_JOBS = ["logs.webhooks.delivery.run_due"]
    return receiver_server


@pytest.fixture
def webhook(db, receiver):
    return Webhook.objects.create(name="CRM", url=f"{receiver.url}/hook", events=EventName.values)
