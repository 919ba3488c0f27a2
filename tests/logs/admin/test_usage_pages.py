"""Usage records and prices in the admin."""

import re
from decimal import Decimal

import pytest

from logs.models import ModelPrice, UsageEvent
from logs.usage.prices import PriceBook
from tests.support.admin.logged import NASTY

pytestmark = pytest.mark.django_db


USAGE = "/admin/logs/usageevent/"


@pytest.fixture
def events(bot) -> None:
    """Store three calls of OpenAI, one of which failed, and one of Claude without a known price."""
    call = {"operation": "completion", "milliseconds": 10, "status": 200, "model": "gpt-4o", "provider": "openai"}
    for changes in (
        {"input_tokens": 1000, "output_tokens": 10, "cost": Decimal("0.5"), "chatbot": bot},
        {"input_tokens": 2000, "output_tokens": 20, "cost": Decimal("0.25")},
        {"status": 502, "error_code": "api_error"},
        {"input_tokens": 5, "output_tokens": 5, "provider": "claude", "model": NASTY},
    ):
        UsageEvent.objects.create(**{**call, **changes})


def totals(client, **parameters) -> str:
    page = client.get(USAGE, parameters)
    assert page.status_code == 200
    [shown] = re.findall(r'<dl aria-label="Totals.*?</dl>|<dl[^>]*Totals.*?</dl>', page.text, re.DOTALL)
    return " ".join(re.sub("<[^>]*>", " ", shown).split())


def test_totals_cover_the_filtered_rows(admin_client, events, bot):
    all_calls = "Calls 4 Input tokens 3,005 Output tokens 35 Images 0 Cost in US$ 0.7500"
    assert totals(admin_client) == f"{all_calls} 1 call of a model without a known price"
    openai = "Calls 3 Input tokens 3,000 Output tokens 30 Images 0 Cost in US$ 0.7500"
    assert totals(admin_client, provider="openai") == openai
    assert totals(admin_client, q="gpt-4o") == openai
    assert totals(admin_client, outcome="failed").startswith("Calls 1 Input tokens 0")
    assert totals(admin_client, outcome="ok").startswith("Calls 3 ")
    assert totals(admin_client, chatbot__id__exact=bot.pk).startswith("Calls 1 Input tokens 1,000")
    assert totals(admin_client, q="nothing like it").startswith("Calls 0 Input tokens 0")


def test_totals_cover_all_pages(admin_client, events):
    first = UsageEvent.objects.first()
    UsageEvent.objects.bulk_create(
        UsageEvent(operation="image", provider="openai", model="x", milliseconds=1, status=200, images=2, cost=0)
        for _ in range(150)
    )
    assert first is not None
    assert totals(admin_client).startswith("Calls 154 ")
    assert "Images 300" in totals(admin_client)


def test_usage_is_read_only(admin_client, events):
    event = UsageEvent.objects.first()
    assert event is not None
    assert admin_client.get(f"{USAGE}{event.pk}/change/").status_code == 200
    assert admin_client.post(f"{USAGE}{event.pk}/change/", {"cost": "0"}).status_code == 403
    assert admin_client.post(f"{USAGE}{event.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get(f"{USAGE}add/").status_code == 403
    assert NASTY not in admin_client.get(USAGE).text


def test_an_invalid_filter_redirects(admin_client, events):
    assert admin_client.get(USAGE, {"created_at__gte": "yesterday"}).status_code == 302


def test_a_price_applies_from_the_next_call(admin_client):
    price = {"provider": "openai", "model": "my-model", "input_price": "2", "output_price": "4", "image_price": "0"}
    assert admin_client.post("/admin/logs/modelprice/add/", price).status_code == 302
    call = {"provider": "openai", "model": "my-model", "input_tokens": 1_000_000, "output_tokens": 500_000}
    assert PriceBook().cost(call) == 4
    duplicate = admin_client.post("/admin/logs/modelprice/add/", price)
    assert duplicate.status_code == 200  # one price per model
    assert ModelPrice.objects.count() == 1
