"""A chatbot's version history: who changed which settings, and restoring a version."""

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.urls import reverse

from chatbots.admin.history import VERSIONS_ON_A_PAGE, difference
from chatbots.lifecycle.serializers import export_chatbots
from chatbots.models import Chatbot
from tests.support.admin.chatbot_pages import LIST, act, change_page, filled, text_of, upload
from tests.support.admin.rows_of_models import NASTY

pytestmark = pytest.mark.django_db


def history_page(bot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_history", args=[bot.pk])


def restore_page(bot: Chatbot, record) -> str:
    return reverse("admin:chatbots_chatbot_restore", args=[bot.pk], query={"version": record.history_id})


def change(client, bot: Chatbot, **fields) -> None:
    data = filled(client.get(change_page(bot))) | fields
    assert client.post(change_page(bot), data).status_code == 302


def reasons(bot: Chatbot) -> list[tuple]:
    names = ("history_type", "history_user__username", "history_change_reason")
    return list(bot.history.order_by("history_id").values_list(*names))


def newest_changes(page) -> list[tuple[str, str]]:
    """Return the newest version's changes as (label, removed text, added text)."""
    changes = page.context["versions"][0].changes
    return [
        (change.label, *("".join(part.text for part in change.parts if part.kind == kind) for kind in ("gone", "new")))
        for change in changes
    ]


# Listing versions


def test_a_version_shows_its_author_and_its_changes(admin_client, bot):
    change(
        admin_client, bot, instructions="Sell boots and shoes.", temperature="0.2", reasoning_effort="xhigh",
        show_copy_button="", collections="shop\r\nfaq", banned_words=NASTY,
    )  # fmt: skip
    page = admin_client.get(history_page(bot))
    assert newest_changes(page) == [
        ("Instructions", "", "boots and "),
        ("Temperature", "1.0", "0.2"),
        ("Reasoning effort", "None", "Extra high"),
        ("Collections", "empty", "shop\nfaq"),
        ("Banned words", "empty", NASTY),
    ]
    assert "Changed by admin" in text_of(page)
    assert "Created by a command" in text_of(page)
    assert NASTY not in page.text


def test_every_way_to_change_a_chatbot_creates_a_version(admin_client, bot):
    change(admin_client, bot, name="Store")
    for action in ("make_draft", "publish", "publish"):
        act(admin_client, action, bot)
    admin_client.post(
        reverse("admin:chatbots_chatbot_renew_identity_secret", args=[bot.pk]), {"_form_submitted": "True"}
    )
    assert reasons(bot) == [
        ("+", None, None),
        ("~", "admin", None),
        ("~", "admin", None),
        ("~", "admin", None),
        ("~", "admin", "New identity secret."),
    ]
    page = admin_client.get(history_page(bot))
    assert newest_changes(page) == []
    assert "New identity secret." in page.text
    act(admin_client, "duplicate", bot)
    copy = Chatbot.objects.get(name="Store (copy)")
    assert reasons(copy) == [("+", "admin", f"Copied from {bot.pk}.")]
    upload(admin_client, json.loads(export_chatbots([bot])))
    imported = Chatbot.objects.exclude(pk__in=[bot.pk, copy.pk]).get()
    assert reasons(imported) == [("+", "admin", None)]
    pk = bot.pk
    act(admin_client, "delete_selected", bot)
    admin_client.post(LIST, {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
    assert not Chatbot.objects.filter(pk=pk).exists()
    last = Chatbot.history.filter(id=pk).first()
    assert (last.history_type, last.history_user.username) == ("-", "admin")


def test_versions_do_not_contain_the_identity_secret(admin_client, bot):
    change(admin_client, bot, name="Store")
    for record in bot.history.all():
        assert not hasattr(record, "identity_secret")
    table = Chatbot.history.model._meta.db_table
    with connection.cursor() as cursor:
        columns = {column.name for column in connection.introspection.get_table_description(cursor, table)}
    assert "identity_secret" not in columns
    assert bot.identity_secret not in admin_client.get(history_page(bot)).text


def test_api_calls_create_no_version(api, openai, bot):
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    assert api.post(f"/chat/{bot.pk}/message", json=question).status_code == 200
    assert bot.history.count() == 1


def test_versions_are_paginated(admin_client, bot):
    for number in range(VERSIONS_ON_A_PAGE + 5):
        bot.name = f"name {number}"
        bot.save()
    first, second = (admin_client.get(history_page(bot), {"p": number}).context["versions"] for number in (1, 2))
    assert (len(first), len(second)) == (VERSIONS_ON_A_PAGE, 6)
    assert first[-1].changes[0].label == "Name"  # compared with a version on the next page
    assert [version.changes for version in second[-1:]] == [[]]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "something new", "[-empty][+something new]"),
        ("one", "two", "[-one][+two]"),
        ("be kind and short", "be kind and very short", "be kind and [+very ]short"),
        ("a b c", "a c", "a [-b ]c"),
        ("x " * 50 + "old end here", "x " * 50 + "new end here", "… " + "x " * 12 + "[-old ][+new ]end here"),
        (
            "old " + "x " * 50 + "old",
            "new " + "x " * 50 + "new",
            "[-old ][+new ]" + "x " * 12 + "… " + "x " * 12 + "[-old][+new]",
        ),
        ("a " * 3000 + "b", "a " * 3000 + "c", None),  # too long to compare word by word
    ],
)
def test_differences_are_shown_word_by_word(old, new, expected):
    marks = {"gone": "[-{}]", "new": "[+{}]", "same": "{}"}
    parts = "".join(marks[part.kind].format(part.text) for part in difference(old, new))
    assert parts == (f"[-{old}][+{new}]" if expected is None else expected)


# Restoring a version


def test_restoring_creates_a_new_version(admin_client, bot):
    first = bot.history.get()
    secret = bot.identity_secret
    change(admin_client, bot, instructions="Sell hats.", temperature="0.1", status="draft", footer_text="New")
    url = restore_page(bot, first)
    assert url in admin_client.get(history_page(bot)).text
    confirmation = admin_client.get(url)
    assert [change.label for change in confirmation.context["changes"]] == [
        "Instructions",
        "Temperature",
        "Footer text",
    ]
    bot.refresh_from_db()
    assert bot.instructions == "Sell hats."  # the confirmation page changes nothing

    page = admin_client.post(url, follow=True)
    assert page.redirect_chain == [(history_page(bot), 302)]
    bot.refresh_from_db()
    assert (bot.instructions, bot.temperature, bot.footer_text) == ("Sell shoes.", 1.0, "")
    assert bot.status == "draft"  # restoring never publishes
    assert bot.identity_secret == secret
    assert bot.history.count() == 3
    assert reasons(bot)[-1][2].startswith("Restored as of ")
    assert LogEntry.objects.first().change_message.startswith("Restored as of ")
    assert url not in page.text  # the current settings equal that version


def test_a_version_that_is_no_longer_valid_cannot_be_restored(admin_client, bot):
    first = bot.history.get()
    bot.history.update(temperature=7, provider="gone")
    page = admin_client.post(restore_page(bot, first))
    assert page.status_code == 200
    assert [problem.partition(":")[0] for problem in page.context["problems"]] == ["Provider", "Temperature"]
    bot.refresh_from_db()
    assert (bot.temperature, bot.provider) == (1.0, "openai")


def test_an_unknown_version_is_404(admin_client, bot):
    other = Chatbot.objects.create(name="Other")
    assert admin_client.get(restore_page(bot, other.history.get())).status_code == 404
    for version in ("", "x", "99999", "²"):
        url = reverse("admin:chatbots_chatbot_restore", args=[bot.pk], query={"version": version})
        assert admin_client.post(url).status_code == 404


def test_a_viewer_cannot_restore(staff, client, bot):
    url = restore_page(bot, bot.history.get())
    bot.name = "Store"
    bot.save()
    viewer = staff("view")
    page = viewer.get(history_page(bot))
    assert page.status_code == 200
    assert "Restore" not in page.text
    assert [viewer.get(url).status_code, viewer.post(url).status_code] == [403, 403]
    client.logout()
    assert client.get(history_page(bot)).status_code == 302
    bot.refresh_from_db()
    assert bot.name == "Store"


def test_the_history_needs_the_view_permission(staff, bot):
    assert staff().get(history_page(bot)).status_code == 403
