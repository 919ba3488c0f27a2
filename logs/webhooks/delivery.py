"""Send the deliveries in the outbox: signed, to public addresses only, with retries for a day.

claim a delivery that is due -> sign -> POST -> done, or rescheduled by 10 seconds, doubled each time, at most an hour
"""

import hashlib
import hmac
import logging
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import requests
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from urllib3.exceptions import HTTPError

from logs.webhooks.events import SCHEMA_VERSION, Event, deliveries_of
from logs.webhooks.fairness import FairSchedule
from logs.webhooks.models import TEST, Webhook, WebhookDelivery
from puffer.net import USER_AGENT, GuardedAdapter, NoAnswer, Session, no_answer_errors, validate_public_url
from puffer.runtime import LeaseLost, Periodic, backoff, claim, claim_many, database_now, due, in_seconds, unleased
from puffer.text import storable

TOTAL_SECONDS = 15.0  # of an attempt, from the connection to the end of the answer
LEASE_SECONDS = 60.0
BATCH, BATCH_SECONDS = 20, 1.0  # deliveries claimed at once, of a fast receiver; the rest is released after that time
MAX_ATTEMPTS = 50  # a day of retries has fewer: these are attempts whose process was killed
FIRST_DELAY, LONGEST_DELAY = 10, 3600  # seconds
RETRY_FOR = timedelta(hours=24)
KEEP_FOR = timedelta(days=30)
DELETE_BATCH = 1000  # rows
MAX_EXCERPT = 500  # characters of an answer

logger = logging.getLogger(__name__)


def run_due() -> bool:
    """Send deliveries that are due, of one webhook, as one of settings.WORKER_JOBS. Return whether there were any."""
    if _sweep.is_due():
        _sweep.restart()
        sweep()
    ready = ready_webhooks()
    while ready:
        with _schedule.next_of(ready) as webhook_id:
            if webhook_id is None:
                return False
            if send_batch(webhook_id):
                return True
            ready.remove(webhook_id)  # another worker was faster
    return False


def ready_webhooks() -> list[int]:
    due_deliveries = WebhookDelivery.objects.filter(due(), webhook=OuterRef("pk"))
    active = Webhook.objects.filter(is_active=True).exclude(paused_until__gt=database_now())
    return list(active.filter(Exists(due_deliveries)).order_by("pk").values_list("pk", flat=True))


def send_batch(webhook_id: int) -> bool:
    """Send a delivery of the webhook, or several if its receiver is fast. Return False if none was left."""
    rows = WebhookDelivery.objects.filter(webhook=webhook_id).select_related("webhook")
    claimed = claim_many(rows, LEASE_SECONDS, BATCH if _schedule.is_fast(webhook_id) else 1)
    began = time.monotonic()
    continues = True
    for delivery in claimed:
        if continues:
            continues = deliver(delivery) and time.monotonic() - began < BATCH_SECONDS
        else:
            with suppress(LeaseLost):
                delivery.release()
    return bool(claimed)


def send_test(webhook: Webhook) -> WebhookDelivery:
    """Send a test event now and without retries. Return its delivery."""
    (delivery,) = deliveries_of(Event(TEST, None, {"text": "This is a test of puffer."}), [webhook.pk])
    delivery.save()
    ours = claim(WebhookDelivery.objects.filter(pk=delivery.pk).select_related("webhook"), LEASE_SECONDS)
    if ours is not None:  # else a worker has claimed it
        deliver(ours)
    return ours or delivery


def deliver(delivery: WebhookDelivery) -> bool:
    """Send a delivery that this process has claimed, and store the result. Return whether it arrived."""
    began = time.monotonic()
    outcome: dict[str, Any] = {"response_status": None, "response_excerpt": ""}
    arrived = False
    try:
        if delivery.attempts > MAX_ATTEMPTS:
            raise ValidationError(f"Sending failed: {MAX_ATTEMPTS} workers stopped during it. See their log.")
        outcome["response_status"], outcome["response_excerpt"] = send(delivery)
        arrived = 200 <= outcome["response_status"] < 300
        error = "" if arrived else f"The server answered with status {outcome['response_status']}."
    except NoAnswer as failure:
        error = f"The server {failure}"
    except ValidationError as refusal:
        error = " ".join(refusal.messages)
    except Exception:
        logger.exception("delivery %s could not be sent", delivery.pk)
        error = "Sending failed because of an unexpected error. See the log of the worker."
    seconds = time.monotonic() - began
    _schedule.record(delivery.webhook_id, seconds)
    outcome["milliseconds"] = round(seconds * 1000)
    try:
        write_outcome(delivery, error, outcome)
    except LeaseLost as loss:
        logger.warning("%s: the delivery was deleted or may be sent twice", loss)
    return arrived


def write_outcome(delivery: WebhookDelivery, error: str, outcome: dict[str, Any]) -> None:
    webhook = delivery.webhook
    if not error:
        delivery.finish(**outcome)
        if webhook.failures:
            Webhook.objects.filter(pk=webhook.pk).update(failures=0, paused_until=None)
        return
    if delivery.event == TEST or delivery.attempts > MAX_ATTEMPTS:
        delivery.fail(error, **outcome)
        return
    wait = delay_after(delivery.attempts)
    if timezone.now() + timedelta(seconds=wait) > delivery.created_at + RETRY_FOR:
        delivery.fail(error, **outcome)
    else:
        delivery.reschedule(wait, error, **outcome)
    # The webhook's other deliveries wait too, so that they neither flood a failing receiver nor delay other webhooks.
    # Attempts that fail at the same time count as one failure.
    pause = delay_after(webhook.failures + 1)
    unchanged = Webhook.objects.filter(pk=webhook.pk, failures=webhook.failures)
    unchanged.update(failures=webhook.failures + 1, paused_until=in_seconds(pause))


def delay_after(failures: int) -> float:
    return backoff(failures, FIRST_DELAY, LONGEST_DELAY)


def send(delivery: WebhookDelivery) -> tuple[int, str]:
    """Return the status and the beginning of the answer.

    Raise NoAnswer, or ValidationError if the URL is not allowed or the secret is unreadable.
    """
    webhook = delivery.webhook
    validate_public_url(webhook.url)
    if not webhook.secret:
        raise ValidationError("The secret can't be decrypted with the server's encryption keys. Create a new secret.")
    body = delivery.payload.encode()
    adapter = GuardedAdapter()
    deadline = time.monotonic() + TOTAL_SECONDS
    with Session() as session, adapter.cut_off_after(TOTAL_SECONDS):
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        try:
            with (
                no_answer_errors(),
                session.post(
                    webhook.url,
                    data=body,
                    headers=headers_of(delivery, body),
                    timeout=(settings.CONNECT_TIMEOUT, TOTAL_SECONDS),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                if time.monotonic() < deadline:
                    return response.status_code, excerpt_of(response)
        except NoAnswer:
            if time.monotonic() < deadline:
                raise
    # The adapter has closed the connection. If it did so within the headers, the response looks complete but is not.
    raise NoAnswer("did not answer in time.", timed_out=True)


def headers_of(delivery: WebhookDelivery, body: bytes) -> dict[str, str]:
    timestamp = str(int(time.time()))
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "X-AIPKit-Event": delivery.event,
        "X-AIPKit-Event-Id": str(delivery.event_id),
        "X-AIPKit-Delivery-Id": str(delivery.delivery_id),
        "X-AIPKit-Idempotency-Key": str(delivery.event_id),
        "X-AIPKit-Schema-Version": SCHEMA_VERSION,
        "X-AIPKit-Timestamp": timestamp,
        "X-AIPKit-Signature": f"sha256={signature(delivery.webhook.secret, timestamp, body)}",
    }


def signature(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def excerpt_of(response: requests.Response) -> str:
    """Return the beginning of the body, or "" if it can't be read: it may be endless, slow or broken."""
    try:
        beginning = response.raw.read1(4 * MAX_EXCERPT, decode_content=True)
    except (HTTPError, OSError):
        return ""
    return storable(beginning.decode(errors="replace"))[:MAX_EXCERPT]


_schedule = FairSchedule()

# Old deliveries

_sweep = Periodic(every_seconds=60)


def sweep() -> None:
    """Fail the deliveries that could not be sent for a day; delete those that are older than a month.

    Deliveries that only wait for a worker do not fail, because no receiver has refused them.
    """
    now = timezone.now()
    refused = Q(webhook__failures__gt=0) | Q(webhook__is_active=False)
    waiting = WebhookDelivery.objects.filter(refused, unleased(), state=WebhookDelivery.State.WAITING)
    waiting.filter(created_at__lt=now - RETRY_FOR).update(
        state=WebhookDelivery.State.DEAD, ended_at=now, lease="", leased_until=None
    )
    old = WebhookDelivery.objects.filter(created_at__lt=now - KEEP_FOR).order_by("created_at")
    while ids := list(old.values_list("pk", flat=True)[:DELETE_BATCH]):
        WebhookDelivery.objects.filter(pk__in=ids).delete()
