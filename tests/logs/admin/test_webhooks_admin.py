"""Webhooks in the admin: adding and testing them, their deliveries, sending deliveries again."""

import html
import json
import uuid

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from logs.webhooks.models import EventName, Webhook, WebhookDelivery

pytestmark = pytest.mark.django_db

FORM = {"name": "CRM", "events": ["chatbot.fb_submitted"], "is_active": "on"}


@pytest.fixture
def receiver(receiver):
    receiver.serves("/hook", b"<b>thanks</b>")
    return receiver


@pytest.fixture
def delivery(webhook):
    payload = json.dumps({"text": "Grüße <b>"})
    return WebhookDelivery.objects.create(
        webhook=webhook, event=EventName.FEEDBACK, event_id=uuid.uuid4(), payload=payload
    )


def page_of(client, row):
    name = f"admin:logs_{row._meta.model_name}_change"
    return html.unescape(client.get(reverse(name, args=[row.pk])).text)


def confirm_action(client, action, row):
    """Confirm the dialog of an action; return the text of the page that follows."""
    url = reverse(f"admin:logs_{row._meta.model_name}_{action}", args=[row.pk])
    response = client.post(url, {"_form_submitted": "True"})
    assert response.status_code == 200
    return html.unescape(client.get(response["HX-Redirect"]).text)


def test_adding_a_webhook_shows_its_secret(admin_client, bot):
    data = FORM | {"url": "https://crm.example.com/hook?key=1", "chatbots": [bot.pk]}
    page = admin_client.post(reverse("admin:logs_webhook_add"), data, follow=True)
    webhook = Webhook.objects.get()
    assert (webhook.events, webhook.is_bound, list(webhook.chatbots.all())) == (["chatbot.fb_submitted"], True, [bot])
    assert webhook.secret.startswith("whsec_")
    assert webhook.secret in page.text
    assert page.redirect_chain == [(reverse("admin:logs_webhook_change", args=[webhook.pk]), 302)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://crm.example.com/"},
        {"url": "https://10.0.0.1/"},
        {"events": []},
        {"events": ["chatbot.everything"]},
        {"is_bound": "on"},
        {"name": ""},
    ],
)
def test_an_invalid_form_adds_no_webhook(admin_client, wrong):
    data = FORM | {"url": "https://crm.example.com/hook"} | wrong
    assert admin_client.post(reverse("admin:logs_webhook_add"), data).status_code == 200
    assert not Webhook.objects.exists()


def test_a_renewed_secret_replaces_the_old_one(admin_client, webhook, delivery):
    before = webhook.secret
    page = confirm_action(admin_client, "renew_secret", webhook)
    webhook.refresh_from_db()
    assert webhook.secret != before
    assert webhook.secret in page
    assert before not in page


def test_sending_a_test_shows_its_result(admin_client, webhook, receiver):
    page = confirm_action(admin_client, "send_a_test", webhook)
    assert "The test was delivered: status 200" in page
    assert "<b>thanks</b>" in page
    assert receiver.sent[0].headers["X-AIPKit-Event"] == "chatbot.test"
    receiver.serves("/hook", b"", 404)
    page = confirm_action(admin_client, "send_a_test", webhook)
    assert "The test failed. The server answered with status 404." in page


def test_a_delivery_shows_its_payload_and_result(admin_client, webhook, delivery, receiver):
    receiver.serves("/hook", b"out of order", 500)
    call_command("worker", once=True)
    page = page_of(admin_client, delivery)
    for text in ('"text": "Grüße <b>"', "out of order", "500", "The server answered with status 500.", "retrying"):
        assert text in page
    assert "failing, 1 in a row; next attempt" in page_of(admin_client, webhook)
    assert "failing" in admin_client.get(reverse("admin:logs_webhook_changelist")).text


def test_sending_again_makes_a_new_delivery_of_the_same_event(admin_client, delivery, receiver):
    call_command("worker", once=True)
    confirm_action(admin_client, "send_this_again", delivery)
    form = {"action": "send_again", "_selected_action": [delivery.pk]}
    admin_client.post(reverse("admin:logs_webhookdelivery_changelist"), form)
    call_command("worker", once=True)
    assert len({sent.headers["X-AIPKit-Delivery-Id"] for sent in receiver.sent}) == 3
    assert {sent.headers["X-AIPKit-Idempotency-Key"] for sent in receiver.sent} == {str(delivery.event_id)}
    assert len({sent.body for sent in receiver.sent}) == 1
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"done"}


def test_deliveries_can_be_filtered_and_searched(admin_client, webhook, delivery):
    other = Webhook.objects.create(name="Other", url="https://other.example/", events=EventName.values)
    dead = WebhookDelivery.objects.create(
        webhook=other, event=EventName.RESPONSE, event_id=uuid.uuid4(), payload="{}", state="dead",
        ended_at=timezone.now(),
    )  # fmt: skip

    def found(**query):
        changelist = admin_client.get(reverse("admin:logs_webhookdelivery_changelist"), query)
        return set(changelist.context["cl"].result_list)

    assert found() == {delivery, dead}
    assert found(state="dead") == {dead}
    assert found(event=str(EventName.FEEDBACK)) == {delivery}
    assert found(webhook__id__exact=other.pk) == {dead}
    assert found(q=str(delivery.event_id)) == found(q=str(delivery.delivery_id)) == {delivery}
    assert found(q="feedback") == set()
    redirect_url = admin_client.get(reverse("admin:logs_webhook_show_deliveries", args=[other.pk]))["Location"]
    assert set(admin_client.get(redirect_url).context["cl"].result_list) == {dead}


def test_deleting_a_webhook_shows_how_many_deliveries_are_deleted(admin_client, webhook, delivery):
    url = reverse("admin:logs_webhook_delete", args=[webhook.pk])
    assert "deliveries: 1" in " ".join(admin_client.get(url).text.lower().split())
    admin_client.post(url, {"post": "yes"})
    assert not WebhookDelivery.objects.exists()


def test_users_with_view_permission_do_not_see_the_secret(client, django_user_model, webhook):
    viewer = django_user_model.objects.create(username="viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_webhook", "view_webhookdelivery"]))
    client.force_login(viewer)
    assert webhook.secret not in page_of(client, webhook)
    assert "Send a test" not in page_of(client, webhook)
