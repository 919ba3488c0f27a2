"""The widget's API calls from other sites: configuration, sessions, streams, history, and which calls are refused."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from chatbots.guards import sessions
from chatbots.widget.labels import LABELS
from tests.support.api import BASE
from tests.support.widget.calls import SHOP, Widget
from tests.support.widget.visitors import change, signed


def test_embed_config_returns_everything_the_widget_needs(api, bot):
    response = Widget(api, bot).get("embed-config")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == SHOP
    assert response.headers["vary"] == "origin"
    assert response.headers["cache-control"] == "public, max-age=60"
    assert "set-cookie" not in response.headers
    answer = response.json()
    config = answer["config"]
    assert config["botId"] == bot.pk
    assert config["apiUrl"] == f"http://testserver{BASE}/chatbots/{bot.pk}"
    for name in ("css", "mainJs"):
        assert config["assetUrls"][name].startswith("http://testserver/widget/")
    assert config["text"]["initialGreeting"] == "Hello there!"
    assert config["starters"] == ["What can you do?", "Tell me a fun fact"]
    html = answer["html"]
    assert html.startswith(
        f'<puffer-chat id="aipkit_popup_wrapper_{bot.pk}" class="aipkit_chatbot aipkit_popup_wrapper"'
    )
    assert "<b>" not in html
    assert "SECRET" not in response.text
    assert bot.identity_secret not in response.text
    change(bot, popup_enabled=False)
    assert 'class="aipkit_chatbot aipkit_chat_container"' in Widget(api, bot).get("embed-config").json()["html"]


@pytest.mark.parametrize(
    ("bot_language", "page_language", "language", "direction"),
    [("", "", "en", "ltr"), ("", "de-AT", "de", "ltr"), ("fr", "de", "fr", "ltr"), ("", "ar", "ar", "rtl"),
     ("", "xx", "en", "ltr"), ("", "he-IL", "en", "rtl"), ("", "az_Arab-IR", "en", "rtl"), ("", "he-Latn", "en", "ltr"),
     ("de", "fa", "de", "ltr")],
)  # fmt: skip
def test_the_language_is_the_bots_or_else_the_pages(api, bot, bot_language, page_language, language, direction):
    change(bot, language=bot_language, greeting="")
    config = Widget(api, bot).get("embed-config", lang=page_language).json()["config"]
    assert (config["language"], config["direction"]) == (language, direction)
    assert config["text"] == LABELS[language]


def placeholders(text):
    return re.findall(r"{\w+}", text)


@pytest.mark.parametrize("language", LABELS)
def test_every_language_has_every_label(language):
    assert LABELS[language].keys() == LABELS["en"].keys()
    for label, text in LABELS[language].items():
        assert text.strip()
        assert ("{name}" in text, "{count}" in text) == (
            "{name}" in LABELS["en"][label],
            "{count}" in LABELS["en"][label],
        )


@pytest.mark.parametrize(
    ("origin", "domains", "any_domain", "status"),
    [
        (SHOP, ["shop.example"], False, 200),
        ("https://SHOP.example:443", ["shop.example"], False, 200),
        ("https://a.wild.example", ["*.wild.example"], False, 200),
        ("https://wild.example", ["*.wild.example"], False, 403),
        ("https://evil.example", ["shop.example"], False, 403),
        ("null", ["shop.example"], False, 403),
        ("", ["shop.example"], False, 403),
        (SHOP, [], False, 403),
        ("null", [], False, 403),
        ("", [], False, 403),
        ("http://testserver", [], False, 403),
        (SHOP, [], True, 200),
        ("null", [], True, 200),
        ("", [], True, 200),
    ],
)
def test_only_allowed_origins_may_call(api, bot, origin, domains, any_domain, status):
    change(bot, embed_allowed_domains=domains, embed_allow_any_domain=any_domain)
    widget = Widget(api, bot, origin)
    config = widget.get("embed-config")
    assert config.status_code == status
    assert config.headers["vary"] == "origin"
    if status == 403:
        assert config.json()["code"] == "rest_aipkit_cors_denied"
    preflight = widget.call(
        "OPTIONS", "session", headers={"Access-Control-Request-Method": "POST",
                                       "Access-Control-Request-Headers": "authorization, content-type"},
    )  # fmt: skip
    may_read = preflight.headers.get("access-control-allow-origin")
    assert may_read == (origin if status == 200 and origin else None)
    assert "access-control-allow-credentials" not in preflight.headers
    session = widget.post("session")
    assert session.status_code == (status if origin else 403)  # browsers send an Origin with every cross-site POST
    assert session.headers.get("access-control-allow-origin") == may_read


@pytest.mark.parametrize("status", ["draft", "trash"])
def test_only_published_chatbots_have_a_config(api, bot, status):
    change(bot, status=status)
    response = Widget(api, bot).get("embed-config")
    assert (response.status_code, response.json()["code"]) == (404, "rest_aipkit_bot_not_found")


def test_bot_id_zero_is_rejected(api, bot):
    bot.pk = 0
    response = Widget(api, bot).get("embed-config")
    assert response.status_code == 400
    assert response.json() == {
        "code": "rest_invalid_param",
        "message": "Invalid parameter(s): bot_id",
        "data": {"status": 400, "params": {"bot_id": "Invalid parameter."}, "details": []},
    }


def test_a_change_of_the_allowed_domains_applies_at_once(api, bot):
    widget = Widget(api, bot).begin()
    change(bot, embed_allowed_domains=["other.example"])
    assert widget.get("conversations").status_code == 403


# Pages


def test_the_chat_page_can_be_enabled(client, bot, api, openai):
    url = f"/chat/{bot.pk}/"
    assert client.get(url).status_code == 404
    change(bot, enable_chat_page=True)
    response = client.get(url, headers={"Accept-Language": "de-DE,de;q=0.9"})
    assert response.status_code == 200
    assert "x-frame-options" not in response.headers
    policy = response["content-security-policy"]
    assert policy.endswith(
        "frame-ancestors http://shop.example https://shop.example http://*.wild.example https://*.wild.example"
    )
    assert "SECRET" not in response.text
    assert "<b>bot" not in response.text
    assert "Nachricht eingeben" in response.text
    change(bot, embed_allowed_domains=[])
    assert client.get(url)["content-security-policy"].endswith("frame-ancestors 'none'")
    change(bot, embed_allow_any_domain=True)
    assert client.get(url)["content-security-policy"].endswith("frame-ancestors *")
    change(bot, embed_allow_any_domain=False)
    chat_page = Widget(api, bot, "http://testserver").begin()
    chat_page.origin = ""  # browsers send no Origin with a same-origin GET
    assert chat_page.get("conversations").status_code == 200
    change(bot, status="draft")
    assert client.get(url).status_code == 404


# Concurrent calls


@pytest.mark.django_db(transaction=True)
def test_a_signature_is_accepted_once_under_concurrency(bot):
    if connection.vendor == "sqlite":
        pytest.skip("the tests' SQLite is in memory, where threads do not wait for each other's locks")
    identity = signed(bot)

    def verify(_):
        try:
            sessions.verify_identity(bot, identity)
        except sessions.InvalidIdentity:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(verify, range(8))) == 1
