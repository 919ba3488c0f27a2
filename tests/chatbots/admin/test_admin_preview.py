"""The widget in the admin: preview, snippet, explained domains, the identity secret, and permissions."""

import html
import json
import re
import shutil
import subprocess
import time

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from chatbots.admin.widget import sites_of
from chatbots.conversation.visitor import Identity
from chatbots.guards.origins import is_allowed
from chatbots.guards.sessions import InvalidVisitorToken, is_signed_out, issue, new_session, read_token, verify_identity
from chatbots.models import Chatbot, SignedOutVisitor
from tests.support.admin.chatbot_pages import LIST, act, change_page, filled, text_of
from tests.support.admin.rows_of_models import NASTY
from tests.support.repository import ROOT

WIDGET_GUIDE = (ROOT / "docs" / "widget.md").read_text()

pytestmark = pytest.mark.django_db

ADD = LIST + "add/"
NEW_PREVIEW = reverse("admin:chatbots_chatbot_preview")
ALLOWED_SITES = reverse("admin:chatbots_chatbot_allowed_sites")


def preview_of(bot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_preview", args=[bot.pk])


def renewal_of(bot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_renew_identity_secret", args=[bot.pk])


def sign_out_of(bot: Chatbot) -> str:
    return reverse("admin:chatbots_chatbot_sign_out_visitor", args=[bot.pk])


def saved_config(page) -> dict:
    return json.loads(html.unescape(re.search(r'data-config="([^"]*)"', page.text)[1]))


# Preview


def test_the_frame_shows_the_saved_settings(admin_client, bot):
    bot.name, bot.greeting = NASTY, "Saved"
    bot.save()
    page = admin_client.get(preview_of(bot))
    config = saved_config(page)
    assert config["preview"] is True
    assert (config["headerName"], config["text"]["initialGreeting"]) == (NASTY, "Saved")
    assert NASTY not in page.text
    assert config["assetUrls"]["mainJs"] in page.text
    for secret in (bot.instructions, bot.model, bot.identity_secret):
        assert secret not in page.text


@pytest.mark.parametrize("public_url", ["", "https://ai.example.com"])
def test_only_the_admin_can_embed_the_frame(admin_client, bot, settings, public_url):
    settings.PUBLIC_URL = public_url
    page = admin_client.get(preview_of(bot))
    assert page["X-Frame-Options"] == "SAMEORIGIN"
    assert page["Content-Security-Policy"].endswith("frame-ancestors 'self'")
    # The preview's CSP allows the host that serves the admin, which may differ from PUBLIC_URL.
    assert saved_config(page)["assetUrls"]["css"].startswith("http://testserver/widget/")
    assert admin_client.get(change_page(bot))["X-Frame-Options"] == "DENY"


def test_unsaved_settings_are_shown_and_not_saved(admin_client, bot):
    data = filled(admin_client.get(change_page(bot)))
    draft = data | {"greeting": "Draft", "primary_color": "#123abc", "conversation_starters": "One?\r\nTwo?"}
    del draft["popup_enabled"]
    answer = admin_client.post(preview_of(bot), draft).json()
    config = answer["config"]
    assert answer["refused"] == []
    assert config["preview"] is True
    assert config["text"]["initialGreeting"] == "Draft"
    assert config["customThemeSettings"]["primaryColor"] == "#123ABC"
    assert config["starters"] == ["One?", "Two?"]
    assert config["popupEnabled"] is False
    bot.refresh_from_db()
    assert (bot.greeting, bot.primary_color, bot.popup_enabled) == ("", "#0B5FFF", True)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "label"),
    [
        ({"accent_color": "url(//evil)"}, "Accent color"),
        ({"accent_color": ""}, "Accent color"),
        ({"popup_icon_value": "javascript:alert(1)"}, "Popup icon"),
        ({"font_family": "x;} body{display:none"}, "Font"),
        ({"popup_width": "9"}, "Popup width"),
        ({"popup_width": "wide"}, "Popup width"),
        ({"language": "xx"}, "Language"),
        ({"conversation_starters": "x" * 201}, "Starters"),
        ({"name": ""}, "Name"),
    ],
)
def test_invalid_fields_fall_back_to_the_saved_value(admin_client, bot, wrong, label):
    data = filled(admin_client.get(change_page(bot))) | {"greeting": "Draft"}
    as_saved = admin_client.post(preview_of(bot), data).json()["config"]
    answer = admin_client.post(preview_of(bot), data | wrong).json()
    assert answer == {"config": as_saved, "refused": [label]}


def test_a_new_chatbot_has_a_preview_before_it_is_saved(admin_client):
    assert saved_config(admin_client.get(NEW_PREVIEW))["headerName"] == "New Chatbot"
    draft = filled(admin_client.get(ADD)) | {"name": "Newest", "theme": "dark"}
    config = admin_client.post(NEW_PREVIEW, draft).json()["config"]
    assert (config["headerName"], config["theme"]) == ("Newest", "dark")
    assert not Chatbot.objects.exists()


def test_the_preview_of_an_unknown_chatbot_is_404(admin_client):
    assert admin_client.get(f"{LIST}999/preview/").status_code == 404
    assert admin_client.post(f"{LIST}x/preview/").status_code == 404


# Allowed domains


@pytest.mark.parametrize(
    ("line", "sites"),
    [
        ("example.com", "https://example.com and http://example.com; not www.example.com"),
        ("WWW.Example.com/shop", "https://www.example.com and http://www.example.com; not example.com"),
        ("https://example.com", "https://example.com; not http://example.com or www.example.com"),
        ("http://example.com:80", "http://example.com; not https://example.com:80 or www.example.com"),
        ("https://example.com:8443", "https://example.com:8443; not http://example.com:8443 or www.example.com"),
        (
            "*.example.com",
            "all below example.com, such as https://www.example.com and http://www.example.com; not example.com itself",
        ),
        ("localhost:3000", "https://localhost:3000 and http://localhost:3000"),
        ("127.0.0.1", "https://127.0.0.1 and http://127.0.0.1"),
        ("https://[::1]:8443", "https://[::1]:8443; not http://[::1]:8443"),
        ("https://müller.de", "https://xn--mller-kva.de; not http://xn--mller-kva.de or www.xn--mller-kva.de"),
    ],
)
def test_the_explanation_of_a_domain_matches_the_origin_check(line, sites):
    assert sites_of(line) == sites
    listed, _, not_listed = sites.partition("; not ")
    allowed = re.findall(r"https?://\S+[^\s,;]", listed)
    refused = re.findall(r"https?://\S+", not_listed) + [
        f"https://{name}" for name in re.findall(r"www\.\S+", not_listed)
    ]
    assert all(is_allowed(origin, [line], any_domain=False) for origin in allowed)
    assert not any(is_allowed(origin, [line], any_domain=False) for origin in refused)
    assert allowed


def test_the_form_lists_the_allowed_sites(admin_client, bot):
    assert "No site can show the widget yet" in text_of(admin_client.get(change_page(bot)))
    bot.embed_allowed_domains = ["example.com", NASTY]
    bot.save()
    page = admin_client.get(change_page(bot))
    assert "https://example.com and http://example.com; not www.example.com" in text_of(page)
    assert NASTY not in page.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"embed_allowed_domains": ""}, "No site can show the widget yet"),
        ({"embed_allowed_domains": "", "embed_allow_any_domain": "on"}, "Any website can show the widget"),
        ({"embed_allowed_domains": "a.example\r\n\r\n*.com"}, "*.com covers too many sites."),
        ({"embed_allowed_domains": NASTY}, f"{NASTY} has no valid host name."),
    ],
)
def test_an_unsaved_list_of_domains_is_explained(admin_client, fields, words):
    page = admin_client.post(ALLOWED_SITES, fields)
    assert words in re.sub(r"<(?!script|/script)[^>]*>", "", html.unescape(page.text))
    assert "<script" not in page.text


def test_the_form_shows_the_snippet_and_links_the_chat_page(admin_client, bot, settings):
    settings.PUBLIC_URL = "https://ai.example.com"
    page = admin_client.get(change_page(bot))
    loader = (
        f'<script src="https://ai.example.com/embed.js" data-bot-id="{bot.pk}" data-wp-site="https://ai.example.com"'
    )
    assert loader in html.unescape(page.text)
    assert 'data-copies="snippet"' in page.text
    chat_page_link = f'href="https://ai.example.com/chat/{bot.pk}/"'
    assert chat_page_link not in page.text
    bot.enable_chat_page = True
    bot.save()
    assert chat_page_link in admin_client.get(change_page(bot)).text
    assert "data-copies" not in admin_client.get(ADD).text


# The identity secret


def test_the_secret_is_shown_in_the_form_only(admin_client, bot):
    page = admin_client.get(change_page(bot))
    assert page.text.count(bot.identity_secret) == 1
    assert bot.identity_secret in re.search(r'<details class="secret">(.*?)</details>', page.text, re.DOTALL)[1]
    admin_client.post(change_page(bot), filled(page) | {"name": "Renamed"})
    for other in (
        admin_client.get(LIST),
        admin_client.get(reverse("admin:chatbots_chatbot_history", args=[bot.pk])),
        admin_client.get(preview_of(bot)),
        admin_client.post(preview_of(bot), filled(page)),
        act(admin_client, "export_as_json", bot),
    ):
        assert other.status_code == 200
        assert bot.identity_secret not in other.text


def test_a_new_secret_ends_all_sessions(admin_client, bot):
    old, token = bot.identity_secret, issue(bot, new_session("https://example.com"))
    dialog = admin_client.get(renewal_of(bot))
    assert "All widget sessions end" in text_of(dialog)
    bot.refresh_from_db()
    assert bot.identity_secret == old
    answer = admin_client.post(renewal_of(bot), {"_form_submitted": "True"})
    bot.refresh_from_db()
    assert answer["HX-Redirect"] == change_page(bot)
    assert bot.identity_secret not in ("", old)
    with pytest.raises(InvalidVisitorToken):
        read_token(bot, token, "https://example.com")
    assert LogEntry.objects.get().change_message == "New identity secret."
    assert admin_client.post(f"{LIST}999/new-identity-secret/", {"_form_submitted": "True"}).status_code == 404


def test_a_visitor_can_be_signed_out(admin_client, bot):
    session = new_session("https://example.com").as_user(Identity("u-7", signed_at=int(time.time())))
    other = new_session("https://example.com").as_user(Identity("u-8", signed_at=int(time.time())))
    assert "As your server signs it" in text_of(admin_client.get(sign_out_of(bot)))
    admin_client.post(sign_out_of(bot), {"_form_submitted": "True", "user_id": ""})
    assert not SignedOutVisitor.objects.exists()
    answer = admin_client.post(sign_out_of(bot), {"_form_submitted": "True", "user_id": "u-7"})
    assert answer["HX-Redirect"] == change_page(bot)
    assert [async_to_sync(is_signed_out)(bot, one) for one in (session, other)] == [True, False]
    entry = LogEntry.objects.get()
    assert entry.change_message == "Signed out a visitor."


VISITOR = '("7", "Änne", "a@b.de")'
RUNS = {
    "python": ["python3", "-c", f"import json; print(json.dumps(puffer_identity{VISITOR}))"],
    "php": ["php", "-r", f"echo json_encode(puffer_identity{VISITOR});"],
    "node": ["node", "-e", f"console.log(JSON.stringify(pufferIdentity{VISITOR}))"],
}


@pytest.mark.parametrize("language", RUNS)
def test_identities_signed_by_the_samples_are_accepted(admin_client, bot, language):
    sample = re.search(
        rf'<pre tabindex="0" id="sample-{language}">(.*?)</pre>', admin_client.get(change_page(bot)).text, re.DOTALL
    )[1]
    program, option, call = RUNS[language]
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    environment = {"PUFFER_IDENTITY_SECRET": bot.identity_secret, "PATH": "/usr/bin:/usr/local/bin"}
    done = subprocess.run(
        [program, option, f"{html.unescape(sample)}\n{call}"],
        env=environment, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    signed = json.loads(done.stdout)
    assert abs(signed["timestamp"] - time.time()) < 30
    identity = verify_identity(bot, signed)
    assert (identity.user_id, identity.name, identity.email) == ("7", "Änne", "a@b.de")


def test_the_guide_and_the_admin_show_the_same_sample(admin_client, bot):
    page = admin_client.get(change_page(bot)).text
    sample = re.search(r'<pre tabindex="0" id="sample-python">(.*?)</pre>', page, re.DOTALL)[1]
    assert html.unescape(sample) in WIDGET_GUIDE


# Permissions


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ([], set()),
        (["view"], {"see", "see preview"}),
        (["view", "add"], {"see", "see preview", "preview new", "explain"}),
        (["view", "change"], {"see", "see preview", "preview", "explain", "sign out"}),
        (["view", "manage_identity_secret"], {"see", "see preview"}),
        (
            ["view", "change", "manage_identity_secret"],
            {"see", "see preview", "secret", "preview", "explain", "sign out", "renew"},
        ),
    ],
)
def test_permissions(staff, bot, permissions, allowed):
    client = staff(*permissions)
    calls = {
        "see": client.get(change_page(bot)),
        "see preview": client.get(preview_of(bot)),
        "preview": client.post(preview_of(bot), {"name": "x"}),
        "preview new": client.post(NEW_PREVIEW, {"name": "x"}),
        "explain": client.post(ALLOWED_SITES, {}),
        "renew": client.post(renewal_of(bot)),  # asks for confirmation
        "sign out": client.get(sign_out_of(bot)),
    }
    done = {name for name, answer in calls.items() if answer.status_code == 200}
    assert {answer.status_code for answer in calls.values()} <= {200, 403}
    if bot.identity_secret in calls["see"].text:
        done.add("secret")
    assert done == allowed
    if allowed == {"see", "see preview"}:
        assert "data-follows-form" not in calls["see"].text
        assert 'data-copies="snippet"' in calls["see"].text


def test_the_explanation_needs_a_post(admin_client):
    assert admin_client.get(ALLOWED_SITES).status_code == 405
