"""Webhooks: the events, their subscribers, signatures, retries and timeouts."""

import json
import re
import subprocess
import threading
import time
import uuid
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot, MessageCount
from chatbots.widget import events as widget_events
from logs.conversations.writer import Turn, write_turns
from logs.models import Conversation
from logs.webhooks import delivery as webhooks
from logs.webhooks.events import subscriber_of
from logs.webhooks.models import EventName, Webhook, WebhookDelivery
from puffer.net import validate_public_url
from puffer.runtime.jobs import claim
from tests.support.providers.answers import CHAT_COMPLETION, CHAT_STREAM
from tests.support.repository import ROOT
from tests.support.upstream import closed_port, running, sending, streaming
from tests.support.widget.calls import Widget

DOCUMENT = (ROOT / "docs" / "webhooks.md").read_text()
SHOP = "https://shop.example"
HOST = "127.0.0.1"  # the test receiver's address


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


@pytest.fixture
def bot(db):
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", embed_allowed_domains=["shop.example"],
        messages_per_minute=None, messages_per_day=2,
    )  # fmt: skip


@pytest.fixture
def widget(api, bot, upstream):
    upstream.pages["/v1/chat/completions"] = streaming(CHAT_STREAM, 0, "end", {})
    return Widget(api, bot)


def run_worker():
    call_command("worker", once=True)


def queued(**filters):
    """Return the payloads in the outbox, in order."""
    return [json.loads(delivery.payload) for delivery in WebhookDelivery.objects.filter(**filters).order_by("id")]


def event_names():
    return [event["event"] for event in queued()]


def queue(webhook, count=1, **values):
    """Create `count` deliveries of an arbitrary event."""
    payload = json.dumps({"text": "Grüße"})
    defaults = {"webhook": webhook, "event": EventName.USER_MESSAGE, "payload": payload}
    return [WebhookDelivery.objects.create(**defaults | {"event_id": uuid.uuid4()} | values) for _ in range(count)]


def make_due():
    """Skip the wait until the next attempt."""
    WebhookDelivery.objects.update(due_at=timezone.now())
    Webhook.objects.update(paused_until=None)


# Events


def test_the_events_of_a_visit_from_its_start_to_a_limit(webhook, widget, bot):
    widget.begin()
    started, _, _, done = (data for name, data in widget.ask() if name in ("start", "done") or name == "delta")
    first = {"conversation_uuid": started["conversation_uuid"], "message_id": started["message_id"]}
    assert widget.post("feedback", feedback="up", **first).status_code == 200
    assert widget.post("feedback", feedback="none", **first).status_code == 200
    widget.ask()
    for _ in range(3):
        assert widget.ask()[0][0] == "error"  # the third message of the day, and two more
    assert event_names() == [
        "chatbot.session_started",
        "chatbot.user_message_submitted",
        "chatbot.response_generated",
        "chatbot.fb_submitted",
        "chatbot.fb_submitted",
        "chatbot.user_message_submitted",
        "chatbot.response_generated",
        "chatbot.limit_reached",
    ]
    session, question, answer, vote, withdrawn, *_, limit = queued()
    visitor = {"session_id": session["visitor"]["session_id"], "user_id": None}
    assert all(event["visitor"] == visitor for event in queued())
    assert all(event["chatbot_id"] == bot.pk and event["source"] == "widget" for event in queued())
    assert (session["conversation_uuid"], session["data"]) == (None, {"origin": SHOP})
    assert question["conversation_uuid"] == answer["conversation_uuid"] == vote["conversation_uuid"]
    assert question["conversation_uuid"] == started["conversation_uuid"]
    assert question["data"] == {"message_id": started["question_id"], "text": "Do you sell shoes?"}
    assert answer["data"]["text"] == done["text"]
    assert answer["data"]["message_id"] == started["message_id"]
    assert answer["data"]["question_id"] == started["question_id"]
    assert (answer["data"]["is_complete"], answer["data"]["model"]) == (True, "gpt-4o-mini")
    assert answer["data"]["usage"]["input_tokens"] > 0
    assert vote["data"] == {"message_id": started["message_id"], "feedback": "up"}
    assert withdrawn["data"]["feedback"] == "none"
    assert limit["data"]["limit"] == "messages_per_day"
    assert limit["data"]["code"] == "rate_limit_exceeded"
    assert limit["data"]["resets_at"] > limit["occurred_at"]


def test_the_payload_is_as_documented(webhook, widget):
    (example,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    example = json.loads(example)
    widget.begin().ask()
    (answer,) = queued(event=EventName.RESPONSE)
    assert answer.keys() == example.keys()
    assert answer["data"].keys() == example["data"].keys()
    assert answer["visitor"].keys() == example["visitor"].keys()
    for event in EventName.values:
        assert f"| `{event}` |" in DOCUMENT


def test_turns_of_the_api_publish_events(webhook, api, bot, upstream):
    upstream.will_answer(CHAT_COMPLETION)
    api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
    question, answer = queued()
    assert (question["source"], question["data"]["text"], answer["data"]["text"]) == ("api", "Hello", "Hi!")


def test_a_failure_of_the_provider_publishes_no_answer(webhook, api, bot, upstream):
    upstream.will_answer({"error": {"message": "no"}}, 400)
    api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert event_names() == ["chatbot.user_message_submitted"]


def test_events_are_redacted_like_the_log(webhook, bot, settings):
    settings.REDACT = ["email"]
    write_turns([turn_for(webhook, bot, question="I am eve@example.com", reply="Hello eve@example.com")])
    assert [event["data"]["text"] for event in queued()] == ["I am [e-mail]", "Hello [e-mail]"]


def turn_for(webhook, bot, **values):
    return Turn(
        **{"question": "Q", "chatbot_id": bot.pk, "reply": "A", "subscribers": [subscriber_of(webhook)]} | values
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 2),
        ({"is_active": False}, 0),
        ({"events": ["chatbot.response_generated"]}, 1),
        ({"events": ["chatbot.fb_submitted"]}, 0),
        ({"is_bound": True}, 0),  # bound to a chatbot that was deleted: gets no events of others
    ],
)
def test_a_webhook_gets_the_events_that_it_subscribes_to(webhook, api, bot, upstream, change, expected):
    for name, value in change.items():
        setattr(webhook, name, value)
    webhook.save()
    upstream.will_answer(CHAT_COMPLETION)
    api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert WebhookDelivery.objects.count() == expected


def test_a_bound_webhook_gets_events_of_its_chatbots_only(webhook, api, bot, upstream):
    webhook.is_bound = True
    webhook.chatbots.set([bot])
    webhook.save()
    other = Chatbot.objects.create(name="Other", provider="openai", model="gpt-4o-mini")
    for chatbot in (bot, other):
        upstream.will_answer(CHAT_COMPLETION)
        api.post(f"/chat/{chatbot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
    assert {event["chatbot_id"] for event in queued()} == {bot.pk}


def test_each_webhook_gets_its_own_delivery_of_the_same_event(webhook, bot, receiver):
    other = Webhook.objects.create(name="Other", url=f"{receiver.url}/hook", events=["chatbot.response_generated"])
    write_turns([turn_for(webhook, bot, subscribers=[subscriber_of(webhook), subscriber_of(other)])])
    deliveries = WebhookDelivery.objects.filter(event=EventName.RESPONSE)
    assert len({delivery.event_id for delivery in deliveries}) == 1
    assert len({delivery.delivery_id for delivery in deliveries}) == 2


def test_without_a_webhook_a_turn_takes_no_more_queries(receiver, api, bot, upstream):
    def queries() -> list[str]:
        upstream.will_answer(CHAT_COMPLETION)
        with CaptureQueriesContext(connection) as captured:
            api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hello"}]})
        return [query["sql"] for query in captured if "webhook" in query["sql"]]

    start = time.monotonic()
    statements = [query for _ in range(5) for query in queries()]
    # The cached list of webhooks is reloaded after 0.8 s; the turns themselves neither read nor write.
    assert len(statements) <= 1 + (time.monotonic() - start) / 0.8
    assert all(query.startswith("SELECT") for query in statements)


@pytest.mark.django_db(transaction=True)
def test_a_turn_and_its_events_are_stored_together(receiver):
    """Check that an invalid turn publishes no events, and that a turn is stored if its webhook was deleted."""
    webhook = Webhook.objects.create(name="CRM", url=f"{receiver.url}/hook", events=EventName.values)
    bot = Chatbot.objects.create(name="Shop")
    write_turns([turn_for(webhook, bot, question="\ud800")])
    assert not WebhookDelivery.objects.exists()
    turn = turn_for(webhook, bot)
    webhook.delete()
    write_turns([turn])
    assert Conversation.objects.count() == 1
    assert not WebhookDelivery.objects.exists()


def test_events_of_a_deleted_conversation_are_not_sent(webhook, bot, receiver):
    write_turns([turn_for(webhook, bot)])
    Conversation.objects.all().delete()
    run_worker()
    assert (receiver.sent, WebhookDelivery.objects.count()) == ([], 0)


def test_forget_user_deletes_the_persons_deliveries(webhook, api, widget, bot):
    widget.begin().ask()
    Widget(api, bot).begin()  # another visitor
    conversation = Conversation.objects.get()
    assert WebhookDelivery.objects.count() == 4
    call_command("forget_user", "--session", conversation.session_id, "--yes", "--no-vacuum")
    (remaining,) = queued()
    assert remaining["visitor"]["session_id"] not in (None, conversation.session_id)
    assert not MessageCount.objects.filter(subject__contains="address").exists()


def test_a_session_publishes_an_event_only_when_it_starts(webhook, widget):
    widget.begin()
    widget.post("session", token=widget.token)
    assert event_names() == ["chatbot.session_started"]


def test_session_events_are_rate_limited(webhook, widget, monkeypatch):
    monkeypatch.setattr(widget_events, "EVENTS_PER_MINUTE", 3)
    assert [widget.post("session").status_code for _ in range(8)] == [200] * 8
    assert 3 <= len(event_names()) <= 6  # the calls may fall into two minutes


LIMITS = {
    "token_guest_limit": ({"token_guest_limit": 0}, "token_limit_exceeded_guest_logic"),
    "messages_per_minute_per_address": ({"messages_per_minute_per_address": 1}, "rate_limit_exceeded"),
    "messages_per_day": ({"messages_per_day": 1}, "rate_limit_exceeded"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_reached_limit_publishes_one_event_per_subject(webhook, api, widget, bot, limit):
    values, code = LIMITS[limit]
    Chatbot.objects.filter(pk=bot.pk).update(**{"messages_per_day": None} | values)
    one, other = widget.begin(), Widget(api, bot).begin()
    for visitor in (one, other, one, other):
        visitor.ask()
    events = [event["data"] for event in queued(event=EventName.LIMIT_REACHED)]
    assert [(event["limit"], event["code"]) for event in events] == [(limit, code)] * len(events)
    if limit == "token_guest_limit":  # a limit of each visitor
        assert len(events) == 2
    else:  # Both visitors share the address and the day; the next minute publishes its own event.
        assert len(events) == len({event["resets_at"] for event in events})


# Delivery


def test_the_request_has_the_documented_headers(webhook, receiver):
    (delivery,) = queue(webhook)
    run_worker()
    (sent,) = receiver.sent
    assert (sent.method, sent.path, sent.body.decode()) == ("POST", "/hook", delivery.payload)
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["X-AIPKit-Event"] == "chatbot.user_message_submitted"
    assert sent.headers["X-AIPKit-Event-Id"] == sent.headers["X-AIPKit-Idempotency-Key"] == str(delivery.event_id)
    assert sent.headers["X-AIPKit-Delivery-Id"] == str(delivery.delivery_id)
    assert sent.headers["X-AIPKit-Schema-Version"] == "1"
    assert abs(int(sent.headers["X-AIPKit-Timestamp"]) - time.time()) < 10
    delivery.refresh_from_db()
    assert (delivery.state, delivery.response_status, delivery.response_excerpt) == ("done", 200, "thanks")
    assert (delivery.attempts, delivery.last_error) == (1, "")


@pytest.mark.parametrize("language", ["python", "js"])
@pytest.mark.parametrize(
    ("forged", "accepted"),
    [
        (None, True),
        ("body", False),
        ("secret", False),
        ("X-AIPKit-Timestamp", False),
        ("X-AIPKit-Signature", False),
        ("too old", False),
    ],
)
def test_the_documented_receivers_accept_only_valid_requests(webhook, receiver, language, forged, accepted):
    queue(webhook)
    run_worker()
    (sent,) = receiver.sent
    secret, headers, body = webhook.secret, dict(sent.headers), sent.body
    if forged == "body":
        body = body.replace(b"text", b"test")
    elif forged == "secret":
        secret += "x"
    elif forged == "too old":
        headers["X-AIPKit-Timestamp"] = str(int(time.time()) - 400)
        signature = webhooks.signature(secret, headers["X-AIPKit-Timestamp"], body)
        headers["X-AIPKit-Signature"] = f"sha256={signature}"
    elif forged == "X-AIPKit-Timestamp":
        headers[forged] = str(int(headers[forged]) + 1)
    elif forged:
        headers[forged] = headers[forged][:-1] + ("0" if headers[forged][-1] != "0" else "1")
    (code,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert RUN[language](code, secret, headers, body) is accepted


def run_python(code, secret, headers, body):
    namespace = {}
    exec(code, namespace)
    return namespace["is_from_puffer"](secret, headers, body)


def run_node(code, secret, headers, body):
    headers = {name.lower(): value for name, value in headers.items()}
    call = f"isFromPuffer({json.dumps(secret)}, {json.dumps(headers)}, Buffer.from({json.dumps(body.hex())}, 'hex'))"
    try:
        done = subprocess.run(
            ["node", "-e", f"{code}\nconsole.log({call})"], capture_output=True, text=True, check=True, timeout=30
        )
    except FileNotFoundError:
        pytest.skip("node is not installed")
    return done.stdout.strip() == "true"


RUN = {"python": run_python, "js": run_node}


def test_deliveries_are_sent_in_order(webhook, receiver):
    deliveries = queue(webhook, 30)
    run_worker()
    assert [sent.headers["X-AIPKit-Delivery-Id"] for sent in receiver.sent] == [str(d.delivery_id) for d in deliveries]


def test_a_large_text_of_unusual_characters_arrives_unchanged(webhook, bot, receiver):
    text = "Ünï \U0001f600 \u2028 \x07 </script> " * 20_000
    write_turns([turn_for(webhook, bot, question=text)])
    run_worker()
    assert receiver.sent[0].json["data"]["text"] == text


# Failures and retries

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


# Slow receivers, huge answers, private addresses


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
