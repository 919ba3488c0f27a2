"""The admin is shown in the browser's language; all other responses stay in English."""

import gettext
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import translation

ROOT = settings.BASE_DIR
MESSAGES = ROOT / "locale" / "de" / "LC_MESSAGES"
APPS = ["puffer", "logs", "providers", "vectorstores", "chatbots"]
GERMAN = {"Accept-Language": "de-DE,de;q=0.9,en;q=0.5"}

with_gettext = pytest.mark.skipif(not shutil.which("msgfmt"), reason="needs GNU gettext")


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    """Restore English after each test, because a request activates its language for the whole thread."""
    with translation.override(settings.LANGUAGE_CODE):
        yield


@pytest.mark.parametrize(
    ("headers", "language", "words"),
    [
        (GERMAN, "de", ["Wissen", "Aktivität", "Sammlungen", "Gespräche", "Nutzung", "API-Schlüssel"]),
        (
            {"Accept-Language": "en"},
            "en",
            ["Knowledge", "Activity", "Collections", "Conversations", "Usage", "API keys"],
        ),
        ({"Accept-Language": "fr"}, "en", ["Knowledge"]),  # not translated
        ({}, "en", ["Knowledge"]),
        ({"Accept-Language": "en", "Cookie": "django_language=de"}, "de", ["Wissen"]),
    ],
)
def test_the_sidebar_is_in_the_browsers_language(admin_client, headers, language, words):
    if cookie := headers.get("Cookie"):
        admin_client.cookies.load(cookie)
        headers = {"Accept-Language": headers["Accept-Language"]}
    page = admin_client.get(reverse("admin:index"), headers=headers)
    assert all(word in page.text for word in words)
    assert f'lang="{language}"' in page.text
    assert page["Content-Language"].startswith(language)
    assert "Accept-Language" in page["Vary"]


def test_labels_and_errors_of_a_form_are_german(admin_client):
    form = admin_client.post(reverse("admin:chatbots_chatbot_add"), {}, headers=GERMAN).text
    assert "Anweisungen" in form
    assert "Dieses Feld ist erforderlich." in form
    assert "Sichern und weiter bearbeiten" in form  # a translation of Django


def test_date_fields_of_the_dashboard_keep_iso_dates(admin_client):
    page = admin_client.get(reverse("admin:index"), {"first": "2026-11-01", "last": "2026-11-02"}, headers=GERMAN).text
    assert 'value="2026-11-01"' in page
    assert 'value="2026-11-02"' in page


def test_the_audit_log_is_stored_in_english(admin_client, bot):
    action = {"action": "make_draft", "_selected_action": bot.pk}
    admin_client.post(reverse("admin:chatbots_chatbot_changelist"), action, headers=GERMAN)
    assert [entry.change_message for entry in LogEntry.objects.filter(object_id=str(bot.pk))] == ["Now draft."]


@pytest.mark.parametrize("path", ["/embed.js", "/chat/{bot}/", "/api/schema/", "/nowhere"])
def test_pages_outside_the_admin_ignore_the_language(client: Client, bot, path):
    path = path.format(bot=bot.pk)
    english, german = client.get(path), client.get(path, headers=GERMAN)
    assert content(german) == content(english)
    assert comparable(german.headers) == comparable(english.headers)
    assert "Content-Language" not in german
    assert "Accept-Language" not in german.get("Vary", "")


def test_errors_of_the_api_stay_english(api, bot):
    for path, body in [("/generate", {}), (f"/chat/{bot.pk}/message", {"message": 5}), ("/nowhere", {})]:
        english, german = api.post(path, json=body), api.post(path, json=body, headers=GERMAN)
        assert english.status_code == german.status_code >= 400
        assert german.text == english.text
        assert comparable(german.headers) == comparable(english.headers)
        assert "content-language" not in german.headers


def test_a_german_admin_page_leaves_the_api_english(admin_client, api):
    before = api.post("/generate", json={}).text
    admin_client.get(reverse("admin:index"), headers=GERMAN)
    assert api.post("/generate", json={}).text == before


def content(response) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def comparable(headers) -> dict[str, str]:
    changing = {"date", "x-request-id", "content-security-policy"}  # the policy contains a nonce
    return {name.lower(): value for name, value in headers.items() if name.lower() not in changing}


def test_every_message_is_translated():
    text = (MESSAGES / "django.po").read_text()
    assert ", fuzzy" not in text
    assert "#~" not in text
    messages = text.rstrip().split("\n\n")[1:]
    assert len(messages) > 600
    assert [message for message in messages if any(not text for _, text in translations(message))] == []


def translations(message: str) -> list[tuple[str, str]]:
    """Return each msgstr of the message with its text, still escaped."""
    lines: list[tuple[str, str]] = []
    name = ""
    for line in message.splitlines():
        if line.startswith("msg"):
            name, _, line = line.partition(" ")
        if name.startswith("msgstr") and line.startswith('"'):
            lines.append((name, line[1:-1]))
    return [(name, "".join(text for _, text in group)) for name, group in groupby(lines, key=lambda line: line[0])]


@with_gettext
def test_the_compiled_messages_are_those_of_the_po_file(tmp_path):
    subprocess.run(["msgfmt", "--check-format", "-o", tmp_path / "django.mo", MESSAGES / "django.po"], check=True)
    assert catalog(MESSAGES / "django.mo") == catalog(tmp_path / "django.mo")


def catalog(path: Path) -> dict:
    with path.open("rb") as file:
        return {key: text for key, text in gettext.GNUTranslations(file)._catalog.items() if key}


@with_gettext
def test_the_po_file_contains_all_texts_of_the_apps(tmp_path):
    for app in APPS:
        (tmp_path / app).symlink_to(ROOT / app)
    shutil.copytree(ROOT / "locale", tmp_path / "locale")
    recipe = subprocess.run(["make", "-n", "messages"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    options = next(line.split()[1:] for line in recipe.splitlines() if "makemessages" in line)
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    subprocess.run([sys.executable, "-m", "django", *options, "--symlinks"], cwd=tmp_path, env=environment, check=True)
    found = tmp_path / "locale" / "de" / "LC_MESSAGES" / "django.po"
    assert found.read_text() == (MESSAGES / "django.po").read_text(), "Run `make messages` and translate what is new."
