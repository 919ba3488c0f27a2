"""Failed webhook deliveries: retries, slow receivers, huge answers, private addresses."""

import re
import threading
import time
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from logs.webhooks import delivery as webhooks
from logs.webhooks.models import EventName, Webhook, WebhookDelivery
from puffer.net import validate_public_url
from puffer.runtime.jobs import claim
from tests.support.upstream import closed_port, sending
from tests.support.webhooks import HOST, queue, run_worker


def make_due():
    """Skip the wait until the next attempt."""
    WebhookDelivery.objects.update(due_at=timezone.now())
    Webhook.objects.update(paused_until=None)


FAILURES = {
    "400": (b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\nno", 400, "status 400"),
    "500": (b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno", 500, "status 500"),
    "a redirect": (b"HTTP/1.1 302 Go\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", 302, "status 302"),
    "nothing": (b"", None, "closed the connection"),
    "no HTTP": (b"220 mail.example ESMTP\r\n", None, "closed the connection"),
}


@pytest.mark.parametrize("answer", FAILURES)
def test_a_failed_delivery_is_retried_until_it_succeeds(webhook, receiver, answer):
    raw, status, error = FAILURES[answer]
    receiver.pages["/hook"] = sending(raw)
    (delivery,) = queue(webhook)
    before = timezone.now()
    run_worker()
    run_worker()
    assert len(receiver.sent) == 1  # no retry before it is due
    delivery.refresh_from_db()
    webhook.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.response_status) == ("waiting", 1, status)
    assert error in delivery.last_error
    assert 9 < (delivery.due_at - before).total_seconds() < 15
    assert (webhook.failures, webhook.paused_until > before) == (1, True)
    make_due()
    receiver.serves("/hook", b"")
    run_worker()
    delivery.refresh_from_db()
    webhook.refresh_from_db()
    assert (delivery.state, delivery.attempts, webhook.failures, webhook.paused_until) == ("done", 2, 0, None)
    first, second = receiver.sent
    for name in ("X-AIPKit-Delivery-Id", "X-AIPKit-Event-Id", "X-AIPKit-Idempotency-Key"):
        assert first.headers[name] == second.headers[name]
    assert first.body == second.body
    assert "/elsewhere" not in [sent.path for sent in receiver.sent]


def test_an_unreachable_receiver(webhook):
    (delivery,) = queue(webhook)
    with closed_port() as url:
        Webhook.objects.update(url=f"{url}/hook")
        run_worker()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.last_error) == ("waiting", "The server cannot be reached.")


def test_the_backoff_doubles_up_to_an_hour():
    assert [webhooks.delay_after(failures) for failures in range(1, 12)] == [
        10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600,
    ]  # fmt: skip
    assert webhooks.delay_after(5000) == 3600


def test_a_delivery_is_dead_after_a_day(webhook, receiver):
    receiver.serves("/hook", b"no", 500)
    (old,) = queue(webhook, created_at=timezone.now() - timedelta(hours=24, seconds=-5))
    (recent,) = queue(webhook)
    for _ in range(3):
        run_worker()
        make_due()
    attempts = list(WebhookDelivery.objects.order_by("id").values_list("pk", "state", "attempts"))
    assert attempts == [(old.pk, "dead", 1), (recent.pk, "waiting", 2)]


def test_waiting_deliveries_of_a_failing_webhook_are_dead_after_a_day(webhook, receiver):
    other = Webhook.objects.create(name="Other", url=f"{receiver.url}/hook", events=EventName.values)
    long_ago = timezone.now() - timedelta(hours=25)
    (of_failing,), (of_other,) = queue(webhook, created_at=long_ago), queue(other, created_at=long_ago)
    Webhook.objects.filter(pk=webhook.pk).update(failures=9, paused_until=timezone.now() + timedelta(hours=1))
    webhooks.sweep()
    states = dict(WebhookDelivery.objects.values_list("pk", "state"))
    assert states == {of_failing.pk: "dead", of_other.pk: "waiting"}  # only late, because no worker was running


def test_deliveries_are_kept_for_a_month(webhook):
    queue(webhook, created_at=timezone.now() - timedelta(days=31))
    (kept,) = queue(webhook, created_at=timezone.now() - timedelta(days=29), state="done")
    webhooks.sweep()
    assert WebhookDelivery.objects.get() == kept


def test_a_failing_webhook_gets_one_attempt_and_does_not_delay_others(webhook, receiver):
    receiver.serves("/broken", b"", 500)
    broken = Webhook.objects.create(name="Broken", url=f"{receiver.url}/broken", events=EventName.values)
    queue(broken, 20)
    queue(webhook, 20)
    run_worker()
    paths = [sent.path for sent in receiver.sent]
    assert (paths.count("/broken"), paths.count("/hook")) == (1, 20)
    make_due()
    run_worker()
    broken.refresh_from_db()
    assert len(receiver.sent) == 22
    assert broken.failures == 2
    assert 15 < (broken.paused_until - timezone.now()).total_seconds() <= 20
    receiver.serves("/broken", b"")
    make_due()
    run_worker()
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"done"}


def test_a_payload_that_is_always_refused_does_not_block_others(webhook, receiver):
    def refuse_poison(connection):
        status = 400 if b"poison" in connection.received.body else 200
        connection.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())

    receiver.pages["/hook"] = refuse_poison
    queue(webhook, payload='"poison"')
    queue(webhook, 5)
    run_worker()
    for _ in range(3):
        Webhook.objects.update(paused_until=None)
        run_worker()
    assert WebhookDelivery.objects.filter(state="done").count() == 5


def test_an_inactive_webhook_gets_nothing(webhook, receiver):
    queue(webhook)
    Webhook.objects.update(is_active=False)
    run_worker()
    assert receiver.sent == []


def limit_seconds(monkeypatch, seconds):
    monkeypatch.setattr(webhooks, "TOTAL_SECONDS", seconds)


def send_slowly(connection):
    connection.wfile.write(b"HTTP/1.1 200 OK\r\n")
    try:
        for number in range(100):
            connection.wfile.write(f"x-{number}: y\r\n".encode())
            time.sleep(0.05)
    except OSError:
        pass
    connection.close_connection = True


def stay_silent(connection):
    connection.request.recv(1)
    connection.close_connection = True


@pytest.mark.parametrize("behavior", [send_slowly, stay_silent])
def test_a_slow_receiver_times_out(webhook, receiver, monkeypatch, behavior):
    limit_seconds(monkeypatch, 0.4)
    receiver.pages["/hook"] = behavior
    (delivery,) = queue(webhook)
    start = time.monotonic()
    run_worker()
    assert time.monotonic() - start < 2
    delivery.refresh_from_db()
    assert (delivery.state, delivery.last_error) == ("waiting", "The server did not answer in time.")


def test_only_the_beginning_of_a_huge_answer_is_read(webhook, receiver):
    written = []

    def endless(connection):
        connection.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(500):
                connection.wfile.write(b"\x00<b>\xff" + b"z" * 1_000_000)
                written.append(1)
        except OSError:
            pass
        connection.close_connection = True

    receiver.pages["/hook"] = endless
    (delivery,) = queue(webhook)
    run_worker()
    delivery.refresh_from_db()
    assert delivery.state == "done"
    assert delivery.response_excerpt.startswith("<b>\ufffdzzz")
    assert len(delivery.response_excerpt) <= 500
    assert len(written) < 100


def test_a_successful_answer_that_never_ends_counts_as_delivered(webhook, receiver, monkeypatch):
    limit_seconds(monkeypatch, 0.4)

    def unfinished(connection):
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        connection.request.recv(1)
        connection.close_connection = True

    receiver.pages["/hook"] = unfinished
    queue(webhook)
    run_worker()
    assert WebhookDelivery.objects.get().state == "done"


URLS = {
    "https://www.example.com/hook?key=1": "",
    "https://93.184.216.34:8443/": "",
    "http://127.0.0.1:9999/hook": "",  # allowed by the fixture
    "http://www.example.com/": "Use https",
    "https://localhost/": "private address",
    "https://10.0.0.1/": "private address",
    "https://169.254.169.254/latest/meta-data": "private address",
    "https://[::1]/": "private address",
    "https://[fd00::1]/": "private address",
    "https://user:password@www.example.com/": "must not contain",
    "https://www.example.com/#part": "must not contain",
    "ftp://www.example.com/": "complete URL",
    "https://": "complete URL",
    "https://www.example.com/a b": "complete URL",
    "https://www.exämple.com/": "complete URL",
    "https://www.example.com:99999/": "valid URL",
    "file:///etc/passwd": "complete URL",
}


@pytest.mark.parametrize("url", URLS)
def test_allowed_and_refused_urls(settings, url):
    settings.PRIVATE_HOST_ALLOWLIST = [HOST]
    if not URLS[url]:
        validate_public_url(url)
        return
    with pytest.raises(ValidationError, match=URLS[url]):
        validate_public_url(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nothing_is_sent_to_a_private_address(webhook, receiver, settings, scheme, host):
    """Check the connected address, whatever the saved URL is and whatever its host name resolves to."""
    settings.PRIVATE_HOST_ALLOWLIST = []
    Webhook.objects.update(url=f"{scheme}://{host}:{receiver.server_port}/hook")
    (delivery,) = queue(webhook)
    connections = receiver.connections
    run_worker()
    delivery.refresh_from_db()
    assert (receiver.sent, delivery.state) == ([], "waiting")
    assert delivery.last_error
    if scheme == "http":
        assert receiver.connections == connections


def test_without_a_readable_secret_nothing_is_sent(webhook, receiver, settings):
    queue(webhook)
    settings.SECRET_KEY = "another"
    run_worker()
    delivery = WebhookDelivery.objects.get()
    assert (receiver.sent, delivery.state) == ([], "waiting")
    assert "secret" in delivery.last_error


def test_an_unexpected_error_is_a_failed_attempt(webhook, receiver, settings):
    settings.PRIVATE_HOST_ALLOWLIST = 5  # the check of the address raises TypeError
    (delivery,) = queue(webhook)
    before = timezone.now()
    run_worker()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("waiting", 1)
    assert "unexpected error" in delivery.last_error
    assert 9 < (delivery.due_at - before).total_seconds() < 15
    WebhookDelivery.objects.update(created_at=timezone.now() - timedelta(hours=25))
    make_due()
    run_worker()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("dead", 2)


def test_a_delivery_that_ends_every_worker_is_given_up(webhook, receiver):
    (poison,) = queue(webhook, attempts=webhooks.MAX_ATTEMPTS)
    (other,) = queue(webhook)
    run_worker()
    states = dict(WebhookDelivery.objects.values_list("pk", "state"))
    assert states == {poison.pk: "dead", other.pk: "done"}
    assert len(receiver.sent) == 1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the plan of PostgreSQL depends on the number of rows")
def test_the_backlog_of_a_paused_webhook_is_not_read(webhook, receiver):
    with CaptureQueriesContext(connection) as captured:
        queue(webhook)
        run_worker()
    selects = [query["sql"] for query in captured if query["sql"].startswith("SELECT") and "due_at" in query["sql"]]
    assert len(selects) > 2
    with connection.cursor() as cursor:
        for sql in selects:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = " ".join(row[3] for row in cursor.fetchall())
            assert re.search("USING (COVERING )?INDEX logs_webhookdelivery_next", plan), (sql, plan)


def test_deleting_a_delivery_while_it_is_sent_is_not_an_error(webhook, receiver, caplog):
    def deleting(connection):
        deleted.set()
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    deleted = threading.Event()
    receiver.pages["/hook"] = deleting
    queue(webhook)
    delivery = claim(WebhookDelivery.objects.select_related("webhook"), 60)
    WebhookDelivery.objects.all().delete()
    webhooks.deliver(delivery)
    assert deleted.is_set()
    assert "may be sent twice" in caplog.text


def test_a_test_delivery_is_not_retried(webhook, receiver):
    assert webhooks.send_test(webhook).state == "done"
    receiver.serves("/hook", b"no", 500)
    delivery = webhooks.send_test(webhook)
    assert (delivery.state, delivery.response_status, delivery.response_excerpt) == ("dead", 500, "no")
    webhook.refresh_from_db()
    assert webhook.failures == 0
    assert {sent.json["event"] for sent in receiver.sent} == {"chatbot.test"}
