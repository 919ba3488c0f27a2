"""The requests of webhook deliveries and their signature."""

import json
import re
import subprocess
import time

import pytest

from logs.conversations.writer import write_turns
from logs.webhooks import delivery as webhooks
from tests.support.webhooks import DOCUMENT, queue, run_worker, turn_for


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
