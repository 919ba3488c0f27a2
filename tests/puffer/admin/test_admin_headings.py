"""Headings, titles and empty states of admin pages, and the format of numbers and times."""

import html
import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from logs.models import Conversation, UsageEvent, new_uuid
from providers.models import ProviderConfig
from puffer.text.formatting import counted, dollars, duration, moment
from vectorstores.models import Collection


@pytest.fixture
def conversation(bot):
    return Conversation.objects.create(
        chatbot=bot, session_id="abcdef0123", identity=new_uuid(), last_message="Yes, we do."
    )


def heading(page) -> list[str]:
    """Return the breadcrumbs of the page, which must match its title."""
    [breadcrumbs] = re.findall(r'<div class="trail">.*?</h1>', page.text, re.DOTALL)
    links = re.findall(r"<(?:a|h1) [^>]*>(.*?)</(?:a|h1)>", breadcrumbs, re.DOTALL)
    labels = [html.unescape(words) for words in links]
    title, *_ = re.findall(r"<title>(.*?)</title>", page.text, re.DOTALL)
    assert html.unescape(title).strip() == " | ".join([*reversed(labels), "puffer"])
    return labels


def test_breadcrumbs_show_the_path_to_the_page(admin_client, admin_user, bot, conversation):
    collection = Collection.objects.create(store="local", name="faq", embedding_provider="openai", embedding_model="e")
    openai = ProviderConfig.objects.get(slug="openai")
    usage = UsageEvent.objects.create(operation="completion", provider="xai", model="m", milliseconds=5, status=200)
    for page, arguments, breadcrumbs in (
        ("index", [], ["Dashboard"]),
        ("chatbots_chatbot_changelist", [], ["Chatbots"]),
        ("chatbots_chatbot_add", [], ["Chatbots", "Add chatbot"]),
        ("chatbots_chatbot_change", [bot.pk], ["Chatbots", "Shop"]),
        ("chatbots_chatbot_delete", [bot.pk], ["Chatbots", "Shop", "Delete"]),
        ("chatbots_chatbot_history", [bot.pk], ["Chatbots", "Shop", "Versions"]),
        ("chatbots_chatbot_try_it", [bot.pk], ["Chatbots", "Shop", "Playground"]),
        ("chatbots_chatbot_unanswered_overview", [], ["Chatbots", "Unanswered questions"]),
        ("logs_conversation_change", [conversation.pk], ["Conversations", "Guest abcdef01"]),
        ("logs_usageevent_change", [usage.pk], ["Usage", "Completion, xAI, m"]),
        ("providers_providerconfig_change", [openai.pk], ["Providers", "OpenAI"]),
        ("vectorstores_collection_try_question", [collection.pk], ["Collections", "faq (Local)", "Try a question"]),
        ("auth_user_password_change", [admin_user.pk], ["Users", "admin", "Change password"]),
        ("auth_user_second_factor", [], ["Two-factor authentication"]),
        ("axes_accesslog_changelist", [], ["Sign-ins"]),
    ):
        assert heading(admin_client.get(reverse(f"admin:{page}", args=arguments))) == breadcrumbs, page


def test_empty_lists_explain_themselves(admin_client, bot):
    changelist_url = reverse("admin:logs_conversation_changelist")
    page = admin_client.get(changelist_url).text
    assert "Nothing here yet." in page
    assert "when somebody talks to a chatbot" in page
    assert "No results." in admin_client.get(changelist_url, {"q": "shoes"}).text
    assert "Nothing here yet." not in admin_client.get(reverse("admin:chatbots_chatbot_changelist")).text


def test_search_results_are_counted(admin_client, conversation):
    page = admin_client.get(reverse("admin:logs_conversation_changelist"), {"source__exact": "api"}).text
    assert "1 found" in page
    assert "1 found" not in admin_client.get(reverse("admin:logs_conversation_changelist")).text


def test_delete_pages_say_what_is_deleted_and_what_is_kept(admin_client, bot, conversation):
    page = admin_client.get(reverse("admin:chatbots_chatbot_delete", args=[bot.pk])).text
    assert "its conversations stay in the log" in page
    assert "object (" not in page  # the default str() of a model
    page = admin_client.get(reverse("admin:logs_conversation_delete", args=[conversation.pk])).text
    assert "Guest abcdef01" in page
    assert "Yes, we do." in page


def test_group_pages_list_the_permissions(admin_client):
    viewer = Group.objects.get(name="Viewer")
    page = re.sub("<[^>]*>", "", admin_client.get(reverse("admin:auth_group_change", args=[viewer.pk])).text)
    assert "Chatbot: view" in page
    assert "Chatbot: view, add" not in page


@pytest.mark.parametrize(
    ("zone", "words"), [("Europe/Berlin", "2026-07-01 14:00 CEST"), ("UTC", "2026-07-01 12:00 UTC")]
)
def test_times_name_their_time_zone(zone, words):
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    with timezone.override(zone):
        assert moment(noon) == words
        assert moment(noon, seconds=True) == words.replace(":00 ", ":00:00 ")


@pytest.mark.parametrize(
    ("amount", "words"),
    [("0", "$0.00"), ("1234.5", "$1,234.50"), ("0.39064", "$0.3906"), ("0.0000045", "$0.000005"), ("0.01", "$0.0100")],
)
def test_dollars(amount, words):
    assert dollars(Decimal(amount)) == words


def test_durations_and_counts():
    assert [duration(took) for took in (None, 0, 999, 1000, 30_049)] == ["–", "0 ms", "999 ms", "1.0 s", "30.0 s"]
    assert [counted(number, "call") for number in (0, 1, 2000)] == ["0 calls", "1 call", "2,000 calls"]
