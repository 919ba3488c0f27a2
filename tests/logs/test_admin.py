"""Conversations, usage and prices in the admin."""

import html
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot
from logs import admin as logs_admin
from logs.models import Conversation, Message, ModelPrice, UsageEvent, new_uuid
from logs.prices import PriceBook
from puffer.models import ApiKey

pytestmark = pytest.mark.django_db

CONVERSATIONS = "/admin/logs/conversation/"
USAGE = "/admin/logs/usageevent/"
NASTY = "<script>alert(1)</script>"


def make_conversation(**values) -> Conversation:
    return Conversation.objects.create(identity=new_uuid(), **values)


@pytest.fixture
def conversation(bot) -> Conversation:
    """A question, its answer, and a question that failed."""
    conversation = make_conversation(chatbot=bot, session_id="abcdef0123456789", message_count=4)
    Message.objects.create(conversation=conversation, role="user", content="Do you sell 50% & more?")
    Message.objects.create(
        conversation=conversation,
        role="bot",
        content=f"Yes.\n{NASTY}",
        provider="openai",
        model=NASTY,
        usage={"input_tokens": 11, "output_tokens": 22, "total_tokens": 33},
        milliseconds=1234,
    )
    Message.objects.create(conversation=conversation, role="user", content="Why?")
    Message.objects.create(
        conversation=conversation, role="bot", content="Error: Quota exceeded", error="Quota exceeded"
    )
    return conversation


def found(client, **parameters) -> list[Conversation]:
    return list(client.get(CONVERSATIONS, parameters).context["cl"].result_list)


def test_a_conversation_reads_like_a_chat(admin_client, conversation):
    page = admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/").text
    _, _, chat = page.partition('role="log"')
    words = html.unescape(chat)
    for text in ("Do you sell 50% & more?", f"Yes.\n{NASTY}", "11 + 22 tokens", "1234 ms", "Error: Quota exceeded"):
        assert text in words
    assert re.findall("max-w-2xl (m[lr]-auto)", chat) == ["ml-auto", "mr-auto", "ml-auto", "mr-auto"]
    assert chat.count("bg-red-100") == 1
    assert NASTY not in page


def test_of_a_very_long_conversation_the_end_is_shown(admin_client, conversation, monkeypatch):
    monkeypatch.setattr(logs_admin, "MAX_SHOWN", 2)
    page = admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/").text
    assert "The last 2 of 4 messages." in page
    assert "Do you sell" not in page
    assert page.index("Why?") < page.index("Error: Quota exceeded")


def test_a_long_conversation_takes_no_more_queries(admin_client, conversation):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/")
        return len(queries)

    count()
    short = count()
    Message.objects.bulk_create(Message(conversation=conversation, role="user", content="again") for _ in range(200))
    assert count() == short


def test_a_conversation_can_only_be_deleted(admin_client, conversation):
    assert admin_client.get(f"{CONVERSATIONS}add/").status_code == 403
    assert admin_client.post(f"{CONVERSATIONS}{conversation.pk}/change/", {"source": "api"}).status_code == 403
    question = admin_client.get(f"{CONVERSATIONS}{conversation.pk}/delete/")
    assert "Messages: 4" in re.sub(r"\s+", " ", question.text)
    admin_client.post(f"{CONVERSATIONS}{conversation.pk}/delete/", {"post": "yes"})
    assert not Message.objects.exists()


def test_several_are_deleted_at_once(admin_client, conversation):
    others = [make_conversation(), make_conversation()]
    selected = {"action": "delete_selected", "_selected_action": [conversation.pk, others[0].pk]}
    assert "Are you sure" in admin_client.post(CONVERSATIONS, selected).text
    admin_client.post(CONVERSATIONS, {**selected, "post": "yes"})
    assert list(Conversation.objects.all()) == [others[1]]


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("50% & MORE", True),
        ("50_", False),  # % and _ are plain characters
        ("Quota", True),
        ("abcdef01", True),
        ("gpt", False),  # the model's name is not what was said
        ("'\";--", False),
        ("  ", True),  # no search at all
    ],
)
def test_search(admin_client, conversation, text, is_found):
    assert (conversation in found(admin_client, q=text)) is is_found


def test_a_conversation_is_found_once(admin_client, conversation, admin_user):
    mine = make_conversation(user=admin_user)
    Message.objects.create(conversation=mine, role="user", content="admin and admin")
    Message.objects.create(conversation=mine, role="user", content="admin again")
    assert found(admin_client, q="admin") == [mine]
    assert found(admin_client, q=admin_user.email) == [mine]


def test_filters(admin_client, conversation):
    old = make_conversation(
        chatbot=Chatbot.objects.create(name="Other"), source="preview", updated_at=timezone.now() - timedelta(days=40)
    )
    assert found(admin_client, chatbot__id__exact=old.chatbot_id) == [old]
    assert found(admin_client, source__exact="api") == [conversation]
    recently = timezone.now() - timedelta(days=7)
    assert found(admin_client, updated_at__gte=recently.isoformat()) == [conversation]
    assert found(admin_client) == [conversation, old]


def test_the_visitor_is_named(admin_client, admin_user):
    key = ApiKey(name="Website", scopes=["chat"])
    key.issue()
    for values in ({"user": admin_user}, {"api_key": key}, {"session_id": "abcdef0123"}, {}):
        make_conversation(**values)
    page = admin_client.get(CONVERSATIONS).text
    visitors = re.findall(r"field-visitor.*?<a[^>]*>\s*(.*?)\s*</a>", page, re.DOTALL)
    assert visitors == ["Guest", "Guest abcdef01", "API key Website", "admin"]


def test_a_conversation_of_a_deleted_chatbot_stays_readable(admin_client, conversation):
    conversation.chatbot.delete()
    assert admin_client.get(f"{CONVERSATIONS}{conversation.pk}/change/").status_code == 200
    assert admin_client.get(CONVERSATIONS).status_code == 200


@pytest.mark.parametrize("pk", ["999", "x"])
def test_a_conversation_that_is_not_there(admin_client, pk):
    assert admin_client.get(f"{CONVERSATIONS}{pk}/change/").status_code == 302


# Usage


@pytest.fixture
def events(bot) -> None:
    """Three calls of OpenAI, one of them failed, and one of Claude without a known price."""
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


def test_totals_are_of_the_filtered_rows(admin_client, events, bot):
    everything = "Calls 4 Input tokens 3,005 Output tokens 35 Images 0 Cost in US$ 0.7500"
    assert totals(admin_client) == f"{everything} 1 calls of models without a known price"
    openai = "Calls 3 Input tokens 3,000 Output tokens 30 Images 0 Cost in US$ 0.7500"
    assert totals(admin_client, provider="openai") == openai
    assert totals(admin_client, q="gpt-4o") == openai
    assert totals(admin_client, outcome="failed").startswith("Calls 1 Input tokens 0")
    assert totals(admin_client, outcome="ok").startswith("Calls 3 ")
    assert totals(admin_client, chatbot__id__exact=bot.pk).startswith("Calls 1 Input tokens 1,000")
    assert totals(admin_client, q="nothing like it").startswith("Calls 0 Input tokens 0")


def test_totals_count_all_pages(admin_client, events):
    first = UsageEvent.objects.first()
    UsageEvent.objects.bulk_create(
        UsageEvent(operation="image", provider="openai", model="x", milliseconds=1, status=200, images=2, cost=0)
        for _ in range(150)
    )
    assert first is not None
    assert totals(admin_client).startswith("Calls 154 ")
    assert "Images 300" in totals(admin_client)


def test_usage_is_only_read(admin_client, events):
    event = UsageEvent.objects.first()
    assert event is not None
    assert admin_client.get(f"{USAGE}{event.pk}/change/").status_code == 200
    assert admin_client.post(f"{USAGE}{event.pk}/change/", {"cost": "0"}).status_code == 403
    assert admin_client.post(f"{USAGE}{event.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get(f"{USAGE}add/").status_code == 403
    assert NASTY not in admin_client.get(USAGE).text


def test_a_wrong_filter_is_no_crash(admin_client, events):
    assert admin_client.get(USAGE, {"created_at__gte": "yesterday"}).status_code == 302


# Prices


def test_a_price_counts_from_the_next_call_on(admin_client):
    price = {"provider": "openai", "model": "my-model", "input_price": "2", "output_price": "4", "image_price": "0"}
    assert admin_client.post("/admin/logs/modelprice/add/", price).status_code == 302
    call = {"provider": "openai", "model": "my-model", "input_tokens": 1_000_000, "output_tokens": 500_000}
    assert PriceBook().cost(call) == 4
    again = admin_client.post("/admin/logs/modelprice/add/", price)
    assert again.status_code == 200  # one price per model
    assert ModelPrice.objects.count() == 1
