"""Chatbots in the admin: import, export, bulk actions, the form."""

import html
import re

import pytest
from django.contrib.admin.models import LogEntry

from chatbots.admin.forms import SHOWN_WHILE
from chatbots.lifecycle.serializers import MAX_BYTES, SETTINGS, export_chatbots
from chatbots.models import Chatbot
from logs.models import Conversation, new_uuid
from tests.support.admin.chatbot_pages import IMPORT, LIST, act, change_page, filled, text_of, upload
from tests.support.admin.rows_of_models import NASTY

pytestmark = pytest.mark.django_db


# Import and export


def test_a_file_is_imported(admin_client, bot):
    page = upload(
        admin_client, [{"name": "New", "provider": "Claude"}, {"id": bot.pk, "name": "Two", "tts_enabled": "x"}]
    )
    assert page.redirect_chain == [(LIST, 302)]
    assert Chatbot.objects.get(name="New").provider == "claude"
    for words in ("2 chatbots were imported.", f"the id {bot.pk} is taken", '"tts_enabled"'):
        assert words in text_of(page)


def test_a_dry_run_saves_nothing(admin_client):
    page = upload(admin_client, [{"name": "New"}], dry_run="on")
    assert "would add 1 chatbot." in text_of(page)
    assert not Chatbot.objects.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"name": "Good"}, {"name": "Bad", "temperature": 9}], 'Chatbot 2 "Bad", temperature:'),
        ([{"name": "Good"}, {"name": NASTY, "provider": NASTY}], f'provider: "{NASTY}" is not a valid choice.'),
        (b"{not json", "The file is not JSON"),
        (b" " * (MAX_BYTES + 1), "larger than 5 MB"),
        (b"", "empty"),
        ([{"name": "x", "status": "?"}] * 60, "and 10 more"),
    ],
)
def test_an_invalid_file_is_rejected_with_its_problem(admin_client, content, words):
    page = upload(admin_client, content)
    assert words in text_of(page)
    assert NASTY not in page.text
    assert not Chatbot.objects.exists()


def test_an_import_needs_a_file(admin_client):
    assert "This field is required" in admin_client.post(IMPORT).text


def test_the_list_links_to_the_import(admin_client):
    assert IMPORT in admin_client.get(LIST).text
    assert 'type="file"' in admin_client.get(IMPORT).text


def test_an_export_can_be_imported(admin_client, bot):
    other = Chatbot.objects.create(name=NASTY)
    Chatbot.objects.create(name="Not chosen")
    page = act(admin_client, "export_as_json", bot, other)
    assert page["Content-Type"] == "application/json"
    assert "attachment" in page["Content-Disposition"]
    assert page.text == export_chatbots([bot, other])
    upload(admin_client, page.content)
    assert Chatbot.objects.filter(name=NASTY).count() == 2


# Bulk actions


@pytest.mark.parametrize(
    ("action", "status"), [("publish", "published"), ("make_draft", "draft"), ("move_to_trash", "trash")]
)
def test_bulk_actions_set_the_status(admin_client, bot, action, status):
    others = [Chatbot.objects.create(name=name, status=name) for name in ("draft", "trash")]
    act(admin_client, action, bot, *others)
    assert {bot.status for bot in Chatbot.objects.all()} == {status}


def test_a_chatbot_moved_to_the_trash_stops_answering_at_once(admin_client, api, bot):
    act(admin_client, "move_to_trash", bot)
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    assert api.post(f"/chat/{bot.pk}/message", json=question).status_code == 404


def test_duplicates_are_drafts(admin_client, bot):
    long = Chatbot.objects.create(name="x" * 200, temperature=0.2)
    act(admin_client, "duplicate", bot, long)
    copy = Chatbot.objects.get(name="Shop (copy)")
    assert (copy.status, copy.instructions, copy.model) == ("draft", bot.instructions, bot.model)
    assert copy.identity_secret not in ("", bot.identity_secret)
    assert Chatbot.objects.filter(name__startswith="xxx", temperature=0.2).count() == 2


def test_conversations_are_counted_and_linked(admin_client, bot):
    for _ in range(3):
        Conversation.objects.create(chatbot=bot, identity=new_uuid())
    Chatbot.objects.create(name="Silent")
    page = admin_client.get(LIST).text
    counts = re.findall(r'href="(/admin/logs/conversation/[^"]*)">(\d+)<', page)
    assert [count for _, count in counts] == ["3", "0"]
    assert admin_client.get(html.unescape(counts[0][0])).context["cl"].result_count == 3


# The form


def test_a_new_chatbot_is_validated_and_saved(admin_client):
    new = filled(admin_client.get(LIST + "add/")) | {
        "name": "New",
        "temperature": "0.5",
        "collections": " shop \r\n\r\nfaq\r\nshop",
        "enable_vector_store": "on",
        "embed_allowed_domains": "example.com\r\n*.example.com\r\n",
        "banned_ips": "10.0.0.0/8\r\n::1",
        "conversation_starters": "",
        "token_guest_limit": "0",
        "messages_per_day": "",
    }
    for wrong in (
        {"collections": ""},
        {"temperature": "3"},
        {"embed_allowed_domains": "https://"},
        {"banned_ips": "example.com"},
        {"primary_color": "red"},
        {"popup_icon_value": "http://insecure.example/icon.png"},
        {"conversation_starters": "a\nb\nc\nd\ne\nf\ng"},
    ):
        page = admin_client.post(LIST + "add/", new | wrong)
        assert list(page.context["adminform"].form.errors) == list(wrong)
    assert not Chatbot.objects.exists()
    assert admin_client.post(LIST + "add/", new).status_code == 302
    bot = Chatbot.objects.get()
    assert (bot.temperature, bot.token_guest_limit, bot.messages_per_day) == (0.5, 0, None)
    assert bot.collections == ["shop", "faq"]
    assert bot.embed_allowed_domains == ["example.com", "*.example.com"]
    assert bot.banned_ips == ["10.0.0.0/8", "::1"]
    assert bot.conversation_starters == []


def test_every_setting_is_in_the_form(admin_client, bot):
    assert admin_client.get(change_page(bot)).context["adminform"].form.fields.keys() == set(SETTINGS)


def test_saving_an_unchanged_form_changes_nothing(admin_client, bot):
    Chatbot.objects.filter(pk=bot.pk).update(
        primary_color="#abcdef", banned_ips=["10.0.0.0/8"], embed_allowed_domains=["example.com"], token_user_limit=5
    )
    before = Chatbot.objects.filter(pk=bot.pk).values().get()
    data = filled(admin_client.get(change_page(bot)))
    page = admin_client.post(change_page(bot), data | {"primary_color": "#abcdef"}, follow=True)
    assert page.redirect_chain == [(LIST, 302)]
    after = Chatbot.objects.filter(pk=bot.pk).values().get()
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed == {"updated_at", "primary_color"}  # the color is normalized to upper case
    assert LogEntry.objects.get().get_change_message() == "No fields changed."


def test_conditions_of_the_form_name_existing_fields():
    fields = set(SETTINGS)
    for condition, names in SHOWN_WHILE.items():
        assert {part.partition("=")[0] for part in condition.split()} | set(names) <= fields


@pytest.mark.parametrize("pk", ["999", "x"])
def test_an_unknown_chatbot_is_404(admin_client, pk):
    for page in ("try", "golden-questions", "restore", "history", "preview"):
        assert admin_client.get(f"{LIST}{pk}/{page}/").status_code == 404, page
