"""The dashboard: its numbers, checked against manual calculations, periods, warnings, permissions."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.guards.budgets import near_budgets
from chatbots.guards.limits import ALL_VISITORS, period_of
from chatbots.models import Chatbot, MessageCount, TokenAllowance
from logs.conversations.writer import Turn, write_turns
from logs.models import ConversationDailyTotal, UsageDailyTotal
from logs.usage import recorder
from logs.usage.daily_totals import midnight, today
from logs.usage.report import percentile
from puffer.models import ApiKey
from puffer.security.roles import EDITOR
from tests.support.admin.accounts import member

pytestmark = pytest.mark.django_db

HOME = "/admin/"
NASTY = "<script>alert(1)</script>"


def call(**changes):
    defaults = {"operation": "completion", "provider": "openai", "model": "gpt-4o", "milliseconds": 400, "status": 200}
    return defaults | changes


def days_ago(days):
    return timezone.now() - timedelta(days=days)


@pytest.fixture
def activity(bot):
    """Store calls of two chatbots today, of one of them five days ago, and a call a month ago."""
    other = Chatbot.objects.create(name=NASTY)
    key = ApiKey(name="Website", scopes=["chat"])
    key.issue()
    recorder.write(
        [
            call(chatbot_id=bot.pk, api_key_id=key.pk, input_tokens=1_000_000, output_tokens=100_000, milliseconds=750),
            call(chatbot_id=bot.pk, status=502, milliseconds=9000),
            call(chatbot_id=other.pk, provider="claude", model="secret", input_tokens=7, output_tokens=3),
            call(operation="embedding", model="text-embedding-3-small", input_tokens=1_000_000, milliseconds=1),
            call(chatbot_id=bot.pk, input_tokens=400_000, output_tokens=0, created_at=days_ago(5), milliseconds=3000),
            call(input_tokens=2_200_000, output_tokens=0, created_at=days_ago(30)),
        ]
    )
    turn = {"reply": "Fine.", "provider": "openai", "model": "gpt-4o", "begins": False}
    write_turns([Turn("Hi", bot.pk, conversation_uuid=uuid, **turn) for uuid in ("a", "a", "b")])
    return {"bot": bot, "other": other, "key": key}


def cards(response):
    return {card["title"]: " ".join(card[part] for part in ("value", "change", "note") if card[part])
            for card in response.context["cards"]}  # fmt: skip


def rows(response, title):
    [table] = [table for name, table in response.context["tables"] if name == title]
    return {re.sub("<[^>]*>", "", row[0]): row[1:] for row in table["rows"]}


def test_values_of_a_week(admin_client, activity):
    response = admin_client.get(HOME)
    # gpt-4o: 1.4 million at $2.50 and 0.1 million at $10; the embedding model: a million at $0.02
    assert cards(response) == {
        "Conversations": "2",
        "Messages": "6",
        "Tokens": "2,500,010",
        "Cost": "$4.52 and 1 call without a known price",
        "Errors": "1 of 5 calls",
        "Typical answer time": "625 ms",  # of 750, 400 and 3000 ms: the middle of the bucket from 500 to 750
        "Slowest 5 %": "2.9 s",
    }
    assert rows(response, "By provider") == {
        "OpenAI": ["2", "6", "4", "2,500,000", "$4.5200", "1", "750 ms", "2.9 s"],
        "Claude": ["0", "0", "1", "10", "$0.0000", "0", "400 ms", "490 ms"],
    }
    assert rows(response, "By model")["gpt-4o (OpenAI)"][:5] == ["2", "6", "3", "1,500,000", "$4.5000"]
    assert rows(response, "By API key")["Website"][:5] == ["0", "0", "1", "1,100,000", "$3.5000"]
    assert rows(response, "By chatbot")["Shop"][:5] == ["2", "6", "3", "1,500,000", "$4.5000"]
    assert NASTY not in response.text
    days = response.context["days"]["rows"]
    assert [row[3] for row in days] == ["4", "0", "0", "0", "0", "1", "0"]
    assert days[0][0] == f"{today():%a, %d %b %Y}"


def test_the_change_since_the_previous_period(admin_client, activity):
    assert cards(admin_client.get(HOME, {"days": 30}))["Tokens"] == "2,500,010 +14 %"  # 2.2 million 30 days ago
    assert cards(admin_client.get(HOME, {"days": 90}))["Tokens"] == "4,700,010"
    today_only = admin_client.get(HOME, {"days": 1})
    assert cards(today_only)["Tokens"] == "2,100,010"
    assert not today_only.context["charts"]


@pytest.mark.parametrize(
    ("parameters", "days", "is_refused"),
    [
        ({}, 7, False),
        ({"days": "30"}, 30, False),
        ({"days": "5"}, 7, False),
        ({"days": "²"}, 7, False),
        ({"first": "2026-02-01", "last": "2026-02-28"}, 28, False),
        ({"first": "2026-02-28", "last": "2026-02-01"}, 7, True),
        ({"first": "2024-02-28", "last": "2026-02-01"}, 7, True),
        ({"first": "yesterday", "last": "2026-02-01"}, 7, True),
        ({"first": "0001-01-01", "last": "0001-01-02"}, 7, True),
        ({"first": "2026-02-01"}, 7, True),
    ],
)
def test_periods(admin_client, parameters, days, is_refused):
    response = admin_client.get(HOME, parameters)
    assert response.status_code == 200
    assert len(response.context["days"]["rows"]) == days
    assert ('role="alert"' in response.text) is is_refused


@pytest.mark.parametrize(
    ("zone", "moment", "tokens"),
    [
        ("UTC", datetime(2026, 3, 10, 23, 30, tzinfo=UTC), "10"),
        ("Europe/Berlin", datetime(2026, 3, 10, 23, 30, tzinfo=UTC), "0"),
        ("America/Los_Angeles", datetime(2026, 3, 11, 5, 0, tzinfo=UTC), "10"),
    ],
)
def test_days_follow_the_sites_time_zone(admin_client, settings, zone, moment, tokens):
    settings.TIME_ZONE = zone
    timezone.get_default_timezone.cache_clear()
    try:
        recorder.write([call(input_tokens=7, output_tokens=3, created_at=moment)])
        response = admin_client.get(HOME, {"first": "2026-03-10", "last": "2026-03-10"})
        assert cards(response)["Tokens"] == tokens
    finally:
        timezone.get_default_timezone.cache_clear()


@pytest.mark.parametrize(
    ("times", "share", "milliseconds"),
    [
        ({}, 0.5, None),
        ({"up_to_100": 1}, 0.5, 75),  # the middle of 50 to 100
        ({"up_to_100": 100}, 0.95, 98),
        ({"up_to_10": 94, "up_to_3000": 6}, 0.5, 5),
        ({"up_to_10": 94, "up_to_3000": 6}, 0.95, 2167),  # a sixth of the bucket from 2000 to 3000
        ({"longer": 3}, 0.95, 60_000),
    ],
)
def test_percentiles(times, share, milliseconds):
    assert percentile([times.get(name, 0) for name in UsageDailyTotal.histogram], share) == milliseconds


# Warnings


def test_failing_providers(admin_client):
    old = {"created_at": timezone.now() - timedelta(minutes=61), "status": 503}
    recorder.write([call(status=503)] * 2 + [call()] * 3 + [call(provider="claude", status=499)] + [call(**old)])
    failing = admin_client.get(HOME).context["failing"]
    assert [(row["label"], row["errors"], row["calls"], row["percent"], row["is_failing"]) for row in failing] == [
        ("OpenAI", 2, 5, 40, True),
        ("Claude", 0, 1, 0, False),  # the visitor disconnected
    ]


@pytest.mark.parametrize(
    ("fields", "count", "expected"),
    [
        ({"messages_per_day": 100}, 79, []),
        ({"messages_per_day": 100}, 80, [("80 of 100 messages today", 80, False)]),
        ({"messages_per_day": 100}, 100, [("100 of 100 messages today", 100, True)]),
        ({"messages_per_day": None}, 5000, []),
    ],
)
def test_daily_message_limits(bot, fields, count, expected):
    Chatbot.objects.update(**fields)
    window = int(midnight(today()).timestamp())
    MessageCount.objects.create(chatbot=bot, subject=ALL_VISITORS, window=window, count=count)
    MessageCount.objects.create(chatbot=bot, subject=ALL_VISITORS, window=window - 86_400, count=9999)
    MessageCount.objects.create(chatbot=bot, subject="guest:x", window=window, count=9999)
    assert [(budget.words, budget.percent, budget.is_over) for budget in near_budgets()] == expected


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (7_999, []),
        (8_000, [("8,000 of 10,000 tokens today", 80, False)]),
        (12_000, [("12,000 of 10,000 tokens today", 100, True)]),
    ],
)
def test_tokens_of_a_day(bot, used, expected):
    Chatbot.objects.update(tokens_per_day=10_000, token_guest_limit=100)
    TokenAllowance.objects.create(chatbot=bot, visitor=ALL_VISITORS, period_start=midnight(today()), used=used)
    TokenAllowance.objects.create(chatbot=bot, visitor="network:x", period_start=midnight(today()), used=1000)
    assert [(budget.words, budget.percent, budget.is_over) for budget in near_budgets()] == expected


@pytest.mark.parametrize("period", Chatbot.ResetPeriod.values)
def test_token_quotas(bot, period):
    Chatbot.objects.update(token_guest_limit=1000, token_user_limit=5000, token_reset_period=period)
    start, end = period_of(period, today())
    used = {"guest:a": 799, "guest:b": 800, "guest:c": 1000, "user:d": 1000, "user:e": 6000}
    for visitor, tokens in used.items():
        TokenAllowance.objects.create(chatbot=bot, visitor=visitor, period_start=start, used=tokens)
    if end:
        TokenAllowance.objects.create(
            chatbot=bot, visitor="guest:f", period_start=start - timedelta(seconds=1), used=9999
        )
    [budget] = near_budgets()
    assert budget.words == "token quota: used up by 2 visitors, nearly by 1 visitor"
    assert budget.is_over


# Permissions


def staff(*permissions):
    user = get_user_model().objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize(
    ("permissions", "shown"),
    [
        (["view_usageevent"], {"Cost", "Providers in the last hour", "By API key"}),
        (["view_conversation"], {"Messages", "By API key"}),
        (["view_conversation", "view_chatbot"], {"Messages", "Limits reached or nearly reached", "By API key"}),
        (["view_chatbot"], set()),
        ([], set()),
    ],
)
def test_users_see_only_permitted_parts(activity, permissions, shown):
    response = staff(*permissions).get(HOME)
    assert response.status_code == 200
    parts = ["Messages", "Cost", "Providers in the last hour", "Limits reached or nearly reached", "By API key"]
    if permissions == ["view_usageevent"]:
        assert "$4.52" in response.text
    assert {part for part in parts if f">{part}<" in response.text} == shown
    if "view_usageevent" not in permissions:
        assert "$4.5" not in response.text


def test_more_rows_take_no_more_queries(admin_client, activity):
    def count():
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(HOME, {"days": 90})
        return len(
            [query for query in queries if re.search('FROM "logs_(usage|conversation)dailytotal"', query["sql"])]
        )

    assert count() == 4
    for number in range(30):
        recorder.write([call(model=f"model-{number}", created_at=days_ago(number))])
    assert count() == 4


UNMODERATED = "the questions to these chatbots are not moderated"


@pytest.mark.parametrize("key", ["", "sk-good", "sk-“pasted”"])
def test_moderation_that_cannot_work_is_announced(admin_client, bot, settings, key):
    settings.PROVIDER_ENVIRONMENT = {"openai": {"api_key": key}}
    assert UNMODERATED not in admin_client.get(HOME).text
    Chatbot.objects.create(name="Draft", status="draft", openai_moderation_enabled=True)
    Chatbot.objects.filter(pk=bot.pk).update(openai_moderation_enabled=True, name=NASTY)
    page = admin_client.get(HOME).text
    form = admin_client.get(f"/admin/chatbots/chatbot/{bot.pk}/change/").text
    assert (UNMODERATED in page, f"/chatbot/{bot.pk}/change/" in page) == (key != "sk-good", key != "sk-good")
    assert ("no question is moderated" in form) == (key != "sk-good")
    assert NASTY not in page
    assert ">Draft<" not in page


PROXY = "TRUSTED_PROXY_COUNT is 0"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_an_unknown_proxy_is_announced_to_owners(admin_client, client, settings, header):
    headers = {header: "for=192.0.2.1"}
    client.force_login(member(EDITOR))
    assert PROXY not in client.get(HOME, headers=headers).text
    assert PROXY in admin_client.get(HOME, headers=headers).text
    assert PROXY not in admin_client.get(HOME).text
    settings.TRUSTED_PROXY_COUNT = 1
    assert PROXY not in admin_client.get(HOME, headers=headers).text


def test_the_dashboard_without_any_data(admin_client):
    response = admin_client.get(HOME)
    assert set(cards(response).values()) == {"0", "$0.00", "0 of 0 calls", "–"}
    assert not ConversationDailyTotal.objects.exists()
