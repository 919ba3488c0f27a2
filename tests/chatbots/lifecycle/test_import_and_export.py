"""The commands import_chatbots and export_chatbots."""

import json
from typing import Any

import pytest
from django.core.management import CommandError

from chatbots.lifecycle.serializers import MAX_BYTES, export_chatbots
from chatbots.models import Chatbot
from providers.registry import PROVIDERS
from tests.support.commands import run

pytestmark = pytest.mark.django_db


FULL = {
    "id": 77,
    "name": "Größe & <b>Preis</b>",
    "status": "draft",
    "provider": "claude",
    "model": "claude-sonnet-5",
    "instructions": "Answer in German.\nToday is [date].\n",
    "temperature": 0.7,
    "max_completion_tokens": 500,
    "max_messages": 4,
    "reasoning_effort": "low",
    "enable_vector_store": True,
    "vector_store_provider": "qdrant",
    "collections": ["shop", "häufige Fragen"],
    "namespace": "blue",
    "vector_embedding_provider": "openai",
    "vector_embedding_model": "text-embedding-3-small",
    "vector_store_top_k": 5,
    "vector_store_confidence_threshold": 35,
    "rewrite_questions": True,
    "reranker": "Cohere",
    "show_sources": False,
    "only_from_sources": True,
    "refusal_message": "No idea.",
    "knowledge_unavailable_message": "Later.",
    "language": "de",
    "greeting": "Moin!",
    "subgreeting": "Worum geht es?",
    "input_placeholder": "Frag mich",
    "enable_conversation_starters": False,
    "conversation_starters": ["Wer bist du?"],
    "header_avatar_url": "https://shop.example/a.png",
    "header_online_text": "da",
    "footer_text": "Wir lesen mit.",
    "theme": "dark",
    "theme_preset_key": "",
    "primary_color": "#112233",
    "secondary_color": "#445566",
    "accent_color": "#778899",
    "font_family": "Georgia, serif",
    "bubble_radius": 4,
    "container_max_width": 700,
    "container_height": 500,
    "popup_width": 400,
    "popup_height": 500,
    "enable_fullscreen": False,
    "enable_download": True,
    "enable_copy_button": False,
    "enable_feedback": False,
    "enable_conversation_sidebar": True,
    "popup_enabled": False,
    "popup_position": "top-left",
    "popup_delay": 3,
    "popup_icon_style": "square",
    "popup_icon_value": "spark",
    "popup_icon_size": "large",
    "popup_label_enabled": False,
    "popup_label_text": "Na?",
    "popup_label_mode": "always",
    "popup_label_delay_seconds": 2,
    "popup_label_auto_hide_seconds": 9,
    "popup_label_dismissible": False,
    "popup_label_frequency": "always",
    "popup_label_show_on_mobile": False,
    "popup_label_show_on_desktop": False,
    "embed_allowed_domains": ["shop.example", "*.shop.example"],
    "embed_allow_any_domain": True,
    "enable_chat_page": True,
    "is_paused": True,
    "paused_message": "Pause.",
    "token_guest_limit": 0,
    "token_user_limit": 5000,
    "token_reset_period": "daily",
    "token_limit_message": "Genug.",
    "messages_per_minute": 3,
    "messages_per_minute_per_address": None,
    "messages_per_day": 500,
    "tokens_per_day": 90_000,
    "rate_limit_message": "Langsam.",
    "banned_words": "spam, eggs",
    "banned_words_message": "Nein.",
    "banned_ips": ["192.0.2.0/24"],
    "banned_ips_message": "Weg.",
    "openai_moderation_enabled": True,
    "openai_moderation_message": "Nicht so.",
    "openai_moderation_required": True,
    "moderation_unavailable_message": "Moment.",
    "enable_consent_compliance": True,
    "consent_title": "Erst lesen",
    "consent_message": "Und dann?",
    "consent_button": "Ja",
}


@pytest.fixture
def stdin(stdin):
    """Return a function that sets stdin to bytes or to a JSON value, and returns the argument "-"."""

    def set_content(content: Any) -> str:
        stdin(content if isinstance(content, bytes) else json.dumps(content))
        return "-"

    return set_content


def test_every_setting_is_imported(stdin):
    out, err = run("import_chatbots", stdin([FULL]), "--json")
    assert (out, err) == ("[77]\n", "")
    bot = Chatbot.objects.get()
    assert {name: getattr(bot, name) for name in FULL} == FULL


def test_missing_and_null_settings_get_their_defaults(stdin):
    run("import_chatbots", stdin([{"name": "Short", "model": None, "id": None}]))
    new = Chatbot(name="Short")
    bot = Chatbot.objects.get()
    for name in FULL.keys() - {"id"}:
        assert getattr(bot, name) == getattr(new, name)


def test_a_single_object_is_imported(stdin):
    assert run("import_chatbots", stdin({"name": "Alone"}), "--json")[0] == f"[{Chatbot.objects.get().pk}]\n"


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"provider": "OpenAI"}, {"provider": "openai"}),
        ({"enable_vector_store": "1"}, {"enable_vector_store": True}),
        ({"show_sources": 0}, {"show_sources": False}),
        ({"collections": [" a "]}, {"collections": ["a"]}),
        ({"token_guest_limit": ""}, {"token_guest_limit": None}),
        ({"messages_per_minute": None}, {"messages_per_minute": None}),
        ({"theme": "ChatGPT"}, {"theme": "chatgpt"}),
        ({"provider": "CLAUDE"}, {"provider": "claude"}),
        ({"provider": " xAI "}, {"provider": "xai"}),
        ({"provider": ""}, {"provider": ""}),
        ({"status": "Draft"}, {"status": "draft"}),
        ({"temperature": "0.7"}, {"temperature": 0.7}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"max_messages": "15"}, {"max_messages": 15}),
        ({"max_messages": 15.0}, {"max_messages": 15}),
        ({"name": "  Shop "}, {"name": "Shop"}),
        ({"instructions": "  kept \n"}, {"instructions": "  kept \n"}),
        ({"id": "12"}, {"pk": 12}),
    ],
)
def test_accepted_spellings(stdin, sent, stored):
    run("import_chatbots", stdin([{"name": "Shop", **sent}]))
    bot = Chatbot.objects.get()
    assert {name: getattr(bot, name) for name in stored} == stored


@pytest.mark.parametrize("slug", PROVIDERS)
def test_providers_are_accepted_by_slug_and_by_label(stdin, slug):
    run("import_chatbots", stdin([{"provider": slug}, {"provider": PROVIDERS[slug].label.upper()}]))
    assert {bot.provider for bot in Chatbot.objects.all()} == {slug}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"provider": "Skynet"}, "provider"),
        ({"provider": 3}, "provider"),
        ({"status": "publish"}, "status"),
        ({"status": ""}, "status"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"temperature": [1]}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"max_messages": 0}, "max_messages"),
        ({"max_messages": 1.5}, "max_messages"),
        ({"max_messages": "many"}, "max_messages"),
        ({"max_messages": False}, "max_messages"),
        ({"max_completion_tokens": 128_001}, "max_completion_tokens"),
        ({"max_completion_tokens": "9" * 5000}, "max_completion_tokens"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"show_sources": "perhaps"}, "show_sources"),
        ({"show_sources": 2}, "show_sources"),
        ({"collections": "a, b"}, "collections"),
        ({"collections": ["a", 1]}, "collections"),
        ({"collections": ["a", ""]}, "collections"),
        ({"collections": ["a"] * 21}, "collections"),
        ({"vector_store_provider": "faiss"}, "vector_store_provider"),
        ({"embed_allowed_domains": ["a b"]}, "embed_allowed_domains"),
        ({"embed_allowed_domains": ["*"]}, "embed_allowed_domains"),
        ({"banned_ips": ["1.2.3"]}, "banned_ips"),
        ({"token_guest_limit": -1}, "token_guest_limit"),
        ({"primary_color": "red"}, "primary_color"),
        ({"popup_icon_value": "javascript:alert(1)"}, "popup_icon_value"),
        ({"conversation_starters": ["x"] * 7}, "conversation_starters"),
        ({"vector_store_top_k": 21}, "vector_store_top_k"),
        ({"vector_store_confidence_threshold": 101}, "vector_store_confidence_threshold"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 5}, "name"),
        ({"model": {"id": "gpt"}}, "model"),
        ({"instructions": ["be", "nice"]}, "instructions"),
        ({"instructions": "a\x00b"}, "instructions"),  # PostgreSQL can't store it
        ({"instructions": "\ud800"}, "instructions"),  # a lone surrogate cannot be encoded
        ({"id": 0}, "id"),
        ({"id": -3}, "id"),
        ({"id": "first"}, "id"),
        ({"id": 2**63 - 1}, "id"),  # no higher id would be left for the next row
    ],
)
def test_invalid_settings_are_named_and_nothing_is_saved(stdin, wrong, field):
    with pytest.raises(CommandError) as refused:
        run("import_chatbots", stdin([{"name": "Good"}, {"name": "Bad", **wrong}, {"name": "Good too"}]))
    problem = str(refused.value).splitlines()[1]
    assert problem.startswith("Chatbot 2")
    assert f", {field}: " in problem
    assert not Chatbot.objects.exists()


def test_all_problems_are_named_at_once(stdin):
    with pytest.raises(CommandError) as refused:
        run("import_chatbots", stdin([{"name": "A", "temperature": 9, "status": "x"}, {"name": "B", "model": 1}]))
    lines = str(refused.value).splitlines()
    assert len(lines) == 4
    assert sum('"A"' in line for line in lines) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1, 2]",
        b'"text"',
        b"null",
        b'[{"name": "A"}, "B"]',
        b"[{}]",
        b'{"version": 3, "scripts": {}}',  # another program's file
        b"\xff\xfe\xfa",
        b"[" * 100_000,
        b'[{"max_messages": ' + b"9" * 5000 + b"}]",
    ],
)
def test_files_without_chatbots_are_rejected(stdin, data):
    with pytest.raises(CommandError, match="Nothing was imported"):
        run("import_chatbots", stdin(data))


def test_a_huge_file_is_not_read_to_its_end(stdin):
    with pytest.raises(CommandError, match="larger than 5 MB"):
        run("import_chatbots", stdin(b" " * (MAX_BYTES * 2)))


def test_a_missing_file():
    with pytest.raises(CommandError, match="cannot be read"):
        run("import_chatbots", "/nonexistent.json")


def test_unknown_settings_are_reported_and_ignored(stdin):
    bots = [{"name": "A", "tts_enabled": "1"}, {"name": "B", "site_wide_enabled": "0"}]
    out, err = run("import_chatbots", stdin(bots), "--json")
    assert len(json.loads(out)) == 2
    assert '"site_wide_enabled", "tts_enabled"' in err


def test_a_taken_id_is_replaced_by_a_new_one(stdin, bot):
    out, err = run("import_chatbots", stdin([{"id": bot.pk, "name": "New"}]), "--json")
    [new] = json.loads(out)
    assert new != bot.pk
    assert f"the id {bot.pk} is taken, so it gets {new}" in err
    bot.refresh_from_db()
    assert bot.name == "Shop"


def test_a_repeated_id_is_used_once(stdin):
    out, _ = run("import_chatbots", stdin([{"id": 5, "name": "A"}, {"id": 5, "name": "B"}]), "--json")
    first, second = json.loads(out)
    assert (first, Chatbot.objects.get(pk=second).name) == (5, "B")
    assert second != 5


def test_new_ids_do_not_collide_with_ids_in_the_file(stdin):
    run("import_chatbots", stdin([{"name": "new"}, *({"id": number, "name": "x"} for number in range(1, 9))]))
    assert Chatbot.objects.count() == 9
    assert Chatbot.objects.create(name="after").pk > 8


def test_the_id_of_a_deleted_chatbot_is_not_reused(stdin):
    run("import_chatbots", stdin([{"id": 5000, "name": "gone"}]))
    Chatbot.objects.all().delete()
    run("import_chatbots", stdin([{"id": 3, "name": "low"}]))
    assert Chatbot.objects.create(name="next").pk > 5000


def test_a_dry_run_checks_and_saves_nothing(stdin, bot):
    out, err = run("import_chatbots", stdin([{"name": "A", "id": bot.pk, "x": 1}]), "--dry-run")
    assert "would add 1 chatbot." in out
    assert "is taken" in err
    assert '"x"' in err
    assert Chatbot.objects.count() == 1
    assert run("import_chatbots", stdin([{"name": "A"}]), "--dry-run", "--json")[0] == "[]\n"
    with pytest.raises(CommandError):
        run("import_chatbots", stdin([{"name": ""}]), "--dry-run")


def test_export_import_export_is_identical(stdin, bot, tmp_path):
    Chatbot.objects.create(**FULL)
    Chatbot.objects.create(name="a\u2028\x7f\U0001f421", temperature=0, status="trash")
    first, _ = run("export_chatbots")
    assert set(json.loads(first)[0]) == set(FULL)
    assert list(json.loads(first)[0])[:2] == ["id", "name"]
    Chatbot.objects.all().delete()
    file = tmp_path / "bots.json"
    file.write_text(first, encoding="utf-8")
    run("import_chatbots", str(file))
    run("export_chatbots", output=tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == first.encode()


def test_files_with_a_bom_or_in_utf_16_are_read(stdin):
    run("import_chatbots", stdin('\ufeff[{"name": "Größe"}]'.encode()))
    run("import_chatbots", stdin('[{"name": "Größe"}]'.encode("utf-16")))
    assert {bot.name for bot in Chatbot.objects.all()} == {"Größe"}


def test_export_of_selected_chatbots(bot):
    other = Chatbot.objects.create(name="Other")
    assert [row["id"] for row in json.loads(run("export_chatbots", "--bot", other.pk)[0])] == [other.pk]
    assert json.loads(run("export_chatbots", "--bot", other.pk, "--bot", bot.pk)[0])[0]["id"] == bot.pk
    with pytest.raises(CommandError, match="no chatbot 999"):
        run("export_chatbots", "--bot", 999)


def test_an_export_without_chatbots_is_an_empty_list():
    assert export_chatbots([]) == "[]\n"
