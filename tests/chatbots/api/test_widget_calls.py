"""The widget's API calls from other sites: configuration, sessions, streams, history, and which calls are refused."""

import dataclasses
import hashlib
import hmac
import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core import signing
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from chatbots.conversation.visitor import Identity
from chatbots.guards import leftovers, sessions
from chatbots.guards.limits import ALL_VISITORS
from chatbots.models import Chatbot, Consent, MessageCount, SignedOutVisitor, TokenAllowance, UsedIdentity
from chatbots.models.limits import new_identity_secret
from chatbots.widget.labels import LABELS
from logs.models import Conversation, Message, UsageEvent
from puffer.runtime import invalidate
from tests.support.api import BASE
from tests.support.providers.answers import CHAT_DONE, CHAT_STREAM
from tests.support.upstream import answering, embedding, streaming
from tests.support.widget.calls import QUESTION, SHOP, Widget, events_of


@pytest.fixture
def bot(db):
    return Chatbot.objects.create(
        name="Shop <b>bot</b>", provider="openai", model="gpt-4o-mini", instructions="Sell shoes: SECRET.",
        embed_allowed_domains=["shop.example", "*.wild.example"],
    )  # fmt: skip


@pytest.fixture
def openai(upstream):
    upstream.pages["/v1/chat/completions"] = streaming(CHAT_STREAM, 0, "end", {})
    upstream.pages["/v1/embeddings"] = embedding()
    return upstream


@pytest.fixture
def widget(api, bot, openai):
    return Widget(api, bot).begin()


def change(bot, **fields):
    for name, value in fields.items():
        setattr(bot, name, value)
    bot.save()


# embed-config


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


# Tokens


def test_an_earlier_token_keeps_the_visitor_id(widget):
    first = widget.post("session").json()
    assert set(first) == {"token", "expires_in", "visitor_id", "identified", "consent_required"}
    again = widget.post("session", token=first["token"]).json()
    assert again["visitor_id"] == first["visitor_id"]
    assert widget.post("session").json()["visitor_id"] != first["visitor_id"]


def altered(token):
    return token[:-3] + ("AAA" if token[-3:] != "AAA" else "BBB")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "=&?:::", "eyJ" * 1000])
def test_malformed_tokens_are_rejected(widget, token):
    widget.token = token
    for response in (widget.get("conversations"), widget.get("history", conversation_uuid="x"),
                     widget.post("consent"), widget.post("stream", message="Hi")):  # fmt: skip
        assert (response.status_code, response.json()["code"]) == (401, "invalid_visitor_token")


def test_a_token_is_valid_for_one_bot_and_one_site_only(widget, bot, api):
    other = Chatbot.objects.create(name="Other", provider="openai", model="m", embed_allowed_domains=["shop.example"])
    tokens = {
        "of another bot": Widget(api, other).begin().token,
        "of another site": Widget(api, bot, "https://a.wild.example").begin().token,
        "altered": altered(widget.token),
        "of another key": signing.dumps({"visitor_id": "x"}, salt="chatbots.guards.sessions"),
    }
    for token in tokens.values():
        assert Widget(api, bot, token=token).get("conversations").status_code == 401
        assert widget.post("session", token=token).status_code == 401
    assert widget.get("conversations").status_code == 200


def token_issued_before(bot, session, hours):
    class Earlier(signing.TimestampSigner):
        def timestamp(self):
            return signing.b62_encode(int(time.time()) - hours * 3600)

    return Earlier(salt=sessions.salt_of(bot)).sign_object(dataclasses.asdict(session), compress=True)


def test_an_expired_token_can_only_be_renewed(widget, bot):
    session = sessions.new_session(SHOP).as_user(Identity("u-7", signed_at=int(time.time())))
    widget.token = token_issued_before(bot, session, 13)
    assert widget.get("conversations").status_code == 401
    renewed = widget.post("session", token=widget.token).json()
    assert renewed["visitor_id"] == session.visitor_id
    assert renewed["identified"] is False  # the site must identify the visitor again
    too_old = token_issued_before(bot, session, 91 * 24)
    assert widget.post("session", token=too_old).status_code == 401


def test_a_new_secret_ends_all_sessions(widget, bot):
    change(bot, identity_secret=new_identity_secret())
    assert widget.get("conversations").status_code == 401


# Identity


def signed(bot, **changes):
    claimed = {"user_id": "u-7", "name": "Ada", "email": "ada@shop.example", "timestamp": int(time.time()),
               "nonce": "abcdefgh1", **changes}  # fmt: skip
    messages = "\n".join(str(claimed[name]) for name in ("user_id", "name", "email", "timestamp", "nonce"))
    claimed.setdefault("hash", hmac.new(bot.identity_secret.encode(), messages.encode(), hashlib.sha256).hexdigest())
    return claimed


def test_a_site_can_identify_its_visitor(widget, bot):
    session = widget.post("session", token=widget.token, identity=signed(bot)).json()
    assert session["identified"] is True
    widget.token = session["token"]
    widget.ask()
    conversation = Conversation.objects.get()
    assert (conversation.external_user_id, conversation.external_name) == ("u-7", "Ada")
    assert conversation.visitor_name == "Ada"


def test_renewing_a_token_does_not_extend_a_signed_identity(widget, bot):
    """Renew every 11 hours, as a script could, after one signature by the site."""
    day_old = Identity("u-7", signed_at=int(time.time()) - 25 * 3600)
    session = sessions.new_session(SHOP).as_user(day_old)
    widget.token = token_issued_before(bot, session, 11)
    assert widget.get("conversations").status_code == 401
    renewed = widget.post("session", token=widget.token).json()
    assert (renewed["visitor_id"], renewed["identified"]) == (session.visitor_id, False)
    widget.token = renewed["token"]
    assert widget.post("session", token=widget.token, identity=signed(bot)).json()["identified"] is True


def test_renewing_a_token_keeps_an_identity_of_today(widget, bot):
    earlier = Identity("u-7", signed_at=int(time.time()) - 23 * 3600)
    widget.token = token_issued_before(bot, sessions.new_session(SHOP).as_user(earlier), 11)
    assert widget.get("conversations").status_code == 200
    assert widget.post("session", token=widget.token).json()["identified"] is True


def test_one_user_can_be_signed_out(widget, bot, api):
    other_bot = Chatbot.objects.create(name="Other", embed_allowed_domains=["shop.example"])
    ada = Widget(api, bot).begin(identity=signed(bot))
    bob = Widget(api, bot).begin(identity=signed(bot, user_id="u-8"))
    elsewhere = Widget(api, other_bot).begin(identity=signed(other_bot))
    unused = signed(bot, nonce="signed-before")
    sessions.sign_out([bot], "u-7")
    assert ada.get("conversations").status_code == 401
    assert ada.post("session", token=ada.token).json()["identified"] is False
    assert widget.post("session", identity=unused).json()["code"] == "invalid_identity"
    for still_signed_in in (bob, elsewhere, widget):
        assert still_signed_in.get("conversations").status_code == 200
    SignedOutVisitor.objects.update(signed_out_at=timezone.now() - timedelta(seconds=2))  # the site signs again later
    invalidate()
    ada.begin(identity=signed(bot, nonce="signed-after"))
    assert ada.get("conversations").status_code == 200


def test_a_command_signs_a_user_out_of_all_or_some_chatbots(widget, bot, api, capsys):
    other_bot = Chatbot.objects.create(name="Other", embed_allowed_domains=["shop.example"])
    visits = [Widget(api, one).begin(identity=signed(one)) for one in (bot, other_bot)]
    call_command("sign_out_visitor", "u-7", bot=[bot.pk])
    assert [visit.get("conversations").status_code for visit in visits] == [401, 200]
    call_command("sign_out_visitor", "u-7")
    assert [visit.get("conversations").status_code for visit in visits] == [401, 401]
    assert "out of 2 chatbots" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no chatbot 999"):
        call_command("sign_out_visitor", "u-7", bot=[999])


def test_records_of_signed_out_visitors_are_deleted(widget, bot):
    sessions.sign_out([bot], "u-7")
    SignedOutVisitor.objects.update(signed_out_at=timezone.now() - timedelta(hours=25))
    widget.post("session", identity=signed(bot))
    assert not SignedOutVisitor.objects.exists()


def test_an_identified_visitor_sees_their_chats_in_another_browser(widget, bot, api):
    widget.begin(identity=signed(bot)).ask()
    elsewhere = Widget(api, bot).begin(identity=signed(bot, nonce="other-nonce"))
    (known,) = elsewhere.get("conversations").json()["conversations"]
    assert elsewhere.get("history", conversation_uuid=known["conversation_uuid"]).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"hash": "0" * 64},
        {"hash": ""},
        {"hash": "ü"},
        {"timestamp": int(time.time()) - 3600},
        {"timestamp": int(time.time()) + 3600},
        {"user_id": ""},
        {"user_id": "a\nb"},
        {"user_id": "x" * 201},
        {"nonce": "short"},
        {"nonce": "with\nbreak"},
    ],
)
def test_invalid_identities_are_rejected(widget, bot, changes):
    response = widget.post("session", identity=signed(bot, **changes))
    assert (response.status_code, response.json()["code"]) == (401, "invalid_identity")
    assert not UsedIdentity.objects.exists()


def test_a_signature_covers_every_field_and_is_accepted_once(widget, bot):
    identity = signed(bot)
    for name, value in (("user_id", "u-8"), ("name", "Eve"), ("email", "eve@shop.example"), ("nonce", "abcdefgh2")):
        assert widget.post("session", identity={**identity, name: value}).status_code == 401
    assert widget.post("session", identity=identity).status_code == 200
    assert widget.post("session", identity=identity).status_code == 401
    assert widget.post("session", identity={**identity, "hash": identity["hash"].upper()}).status_code == 401


def test_an_identity_signed_for_another_bot_is_rejected(widget, bot, api):
    other = Chatbot.objects.create(name="Other")
    assert other.identity_secret != bot.identity_secret
    assert widget.post("session", identity=signed(other)).status_code == 401


def test_an_identity_must_be_an_object_with_all_fields(widget):
    for identity in ("u-7", {"user_id": 7}, {"user_id": "u-7"}):
        assert widget.post("session", identity=identity).json()["code"] == "rest_invalid_param"


# The stream


def test_an_answer_is_streamed_and_logged(widget, openai, bot):
    (start, started), *deltas, (end, done) = widget.ask()
    assert (start, end) == ("start", "done")
    assert {name for name, _ in deltas} == {"delta"}
    assert len(deltas) > 1
    text = "".join(delta["text"] for _, delta in deltas)
    assert done["text"] == text.strip()
    assert done["html"].startswith("<p>")
    assert done["usage"]["total_tokens"] > 0
    assert done["finish_reason"] == "stop"
    assert done["message_id"] == started["message_id"]
    sent = openai.sent[-1].json
    assert sent["stream"] is True
    assert sent["messages"][0] == {"role": "system", "content": "Sell shoes: SECRET."}
    question, reply = Message.objects.order_by("pk")
    assert (question.content, reply.content) == (QUESTION, done["text"])
    assert (question.message_id, reply.message_id) == (started["question_id"], started["message_id"])
    assert question.conversation.conversation_uuid == started["conversation_uuid"]
    assert question.conversation.source == "widget"
    assert UsageEvent.objects.get().chatbot == bot


def test_a_conversation_continues_under_its_uuid(widget, openai):
    first = widget.ask()[0][1]
    widget.ask("And socks?", conversation_uuid=first["conversation_uuid"])
    messages = [(message["role"], message["content"]) for message in openai.sent[-1].json["messages"]]
    answer = Message.objects.filter(role="bot").first().content
    assert messages[1:] == [("user", QUESTION), ("assistant", answer), ("user", "And socks?")]
    assert Conversation.objects.get().message_count == 4


def test_the_prompt_has_the_last_messages_without_failed_turns(widget, openai, bot):
    change(bot, max_messages=2)
    conversation = widget.ask("one")[0][1]["conversation_uuid"]
    good = openai.pages["/v1/chat/completions"]
    openai.pages["/v1/chat/completions"] = answering({"error": {"message": "SECRET key"}}, 500)
    assert widget.ask("two", conversation_uuid=conversation)[-1][0] == "error"
    openai.pages["/v1/chat/completions"] = good
    widget.ask("three", conversation_uuid=conversation)
    messages = [message["content"] for message in openai.sent[-1].json["messages"][1:]]
    assert messages == ["one", Message.objects.filter(role="bot").first().content, "three"]


def test_sources_come_before_the_answer(widget, openai, bot, api):
    item = {
        "id": "r",
        "content": "Shoes: yes, in all sizes.",
        "metadata": {"title": "Shoes", "url": "https://s.example"},
    }
    call = {"provider": "local", "target_id": "kb", "embedding_provider": "openai", "embedding_model": "emb-1"}
    assert api.post("/vector-stores/upsert", json={**call, "vectors": [item]}).status_code == 200
    change(bot, enable_vector_store=True, collections=["kb"], vector_store_confidence_threshold=0)
    events = widget.ask()
    assert [name for name, _ in events[:3]] == ["start", "status", "sources"]
    assert events[1][1] == {"status": "searching"}
    (source,) = events[2][1]
    assert (source["title"], source["url"]) == ("Shoes", "https://s.example")
    history = widget.get("history", conversation_uuid=events[0][1]["conversation_uuid"]).json()["messages"]
    assert history[1]["sources"][0]["title"] == "Shoes"
    change(bot, show_sources=False)
    assert "sources" not in dict(widget.ask())


def test_a_provider_error_is_logged_but_not_shown_to_the_visitor(widget, openai, bot):
    openai.pages["/v1/chat/completions"] = answering({"error": {"message": "SECRET account"}}, 429)
    (_, start), (name, error) = widget.ask()
    assert name == "error"
    assert (error["code"], error["data"]) == ("chatbot_unavailable", {"status": 429})
    assert "SECRET" not in json.dumps(error)
    assert "SECRET" in Message.objects.get(role="bot").error
    messages = widget.get("history", conversation_uuid=start["conversation_uuid"]).json()["messages"]
    assert messages[1]["failed"] is True
    assert "SECRET" not in json.dumps(messages)


def test_a_broken_stream_keeps_the_partial_answer(widget, openai):
    openai.pages["/v1/chat/completions"] = streaming(CHAT_STREAM[:3], 0, "break off", {})
    events = widget.ask()
    assert events[-1][0] == "error"
    assert [data["text"] for name, data in events if name == "delta"] == ["H", "i!"]
    reply = Message.objects.get(role="bot")
    assert reply.content == "Hi!"
    assert reply.error


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "rest_missing_callback_param"),
        ({"message": 5}, 400, "rest_invalid_param"),
        ({"message": " \n"}, 400, "rest_aipkit_invalid_last_message"),
        ({"message": "\u200b\u3164"}, 400, "rest_aipkit_invalid_last_message"),
        ({"message": "x" * 8001}, 400, "rest_aipkit_invalid_last_message"),
        ({"message": "Hi", "conversation_uuid": "of-nobody"}, 404, "conversation_not_found"),
    ],
)
def test_invalid_calls_are_rejected_before_the_stream(widget, openai, body, status, code):
    response = widget.post("stream", **body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert not openai.sent


def test_limits_and_moderation_are_error_events_before_any_model_call(widget, openai, bot):
    cases = [
        ({"is_paused": True, "paused_message": "Back soon."}, "chatbot_paused", "Back soon."),
        ({"token_guest_limit": 0}, "token_limit_exceeded_guest_logic", None),
        ({"banned_words": "shoes", "banned_words_message": "No."}, "word_banned", "No."),
        ({"banned_ips": ["127.0.0.0/8"]}, "ip_banned", None),
    ]
    for changes, code, message in cases:
        before = {name: getattr(bot, name) for name in changes}
        change(bot, **changes)
        ((name, error),) = widget.ask()
        assert (name, error["code"]) == ("error", code)
        assert message is None or error["message"] == message
        assert ("quota_notice" in error) == code.startswith("token_limit")
        change(bot, **before)
    assert not openai.sent
    assert not Message.objects.exists()


FLAGGED = {"id": "modr-1", "model": "omni-moderation-latest", "results": [{"flagged": True, "categories": {}}]}


@pytest.mark.parametrize(
    ("settings_of_bot", "code"),
    [
        ({"banned_words": "shoes"}, "word_banned"),
        ({"banned_ips": ["127.0.0.0/8"]}, "ip_banned"),
        ({"openai_moderation_enabled": True}, "content_flagged_by_openai"),
    ],
)
def test_refused_questions_leave_the_messages_of_the_day_to_others(widget, openai, bot, settings_of_bot, code):
    openai.pages["/v1/moderations"] = answering(FLAGGED)
    change(bot, messages_per_day=2, **settings_of_bot)
    for _ in range(3):
        assert [(name, data["code"]) for name, data in widget.ask()] == [("error", code)]
    assert not MessageCount.objects.filter(subject=ALL_VISITORS, count__gt=0).exists()
    change(bot, **{name: type(value)() for name, value in settings_of_bot.items()})
    assert [widget.ask()[-1][0] for _ in range(3)] == ["done", "done", "error"]


def test_flagged_questions_count_for_their_visitor(widget, openai, bot):
    """Limit them, because each one is a call of OpenAI."""
    openai.pages["/v1/moderations"] = answering(FLAGGED)
    change(bot, messages_per_minute=2, messages_per_day=None, openai_moderation_enabled=True)
    codes = [widget.ask()[0][1]["code"] for _ in range(3)]
    flagged = "content_flagged_by_openai"
    assert codes in ([flagged, flagged, "rate_limit_exceeded"], [flagged] * 3)  # three, if a new minute began


def test_messages_per_minute_are_limited(widget, bot):
    change(bot, messages_per_minute=2)
    names = [widget.ask()[-1][0] for _ in range(3)]
    assert names in (["done", "done", "error"], ["done"] * 3)  # three, if a new minute began between the calls


def test_missing_usage_is_estimated_for_the_quota(widget, openai, bot):
    change(bot, token_guest_limit=1000)
    openai.pages["/v1/chat/completions"] = streaming([*CHAT_STREAM[:4], CHAT_DONE], 0, "end", {})
    assert dict(widget.ask())["done"]["usage"] is None
    of_visitor, of_network = TokenAllowance.objects.order_by("pk")
    assert 0 < of_visitor.used == of_network.used < 50


@pytest.mark.slow
def test_forged_forwarding_headers_do_not_evade_the_address_limit(widget, bot):
    change(bot, messages_per_minute_per_address=5, messages_per_minute=None)
    names, began = [], time.time()
    for number in range(1000):
        forged = {"X-Forwarded-For": f"10.{number // 256}.{number % 256}.1", "X-Real-IP": f"2001:db8::{number:x}"}
        response = widget.call("POST", "stream", json={"message": "Hi"}, headers=forged)
        names.append(events_of(response.text)[-1][0])
    minutes = int(time.time() // 60 - began // 60) + 1  # calendar minutes during the calls
    assert 5 <= names.count("done") <= 5 * minutes
    assert Conversation.objects.values("ip_address").distinct().count() == 1


# Consent


def test_chatting_requires_consent(widget, openai, bot):
    change(bot, enable_consent_compliance=True, consent_message="We keep what you write.")
    assert widget.post("session", token=widget.token).json()["consent_required"] is True
    assert widget.post("stream", message="Hi").json()["code"] == "consent_required"
    assert not openai.sent
    agreed = widget.post("consent").json()
    assert agreed["consent_required"] is False
    widget.token = agreed["token"]
    assert widget.ask()[-1][0] == "done"
    assert Consent.objects.count() == 1
    assert widget.post("session", token=widget.token).json()["consent_required"] is False
    change(bot, consent_message="We keep what you write for ten years.")
    assert widget.post("stream", message="Hi").json()["code"] == "consent_required"


def test_a_chatbot_without_consent_keeps_none(widget):
    assert widget.post("consent").status_code == 400
    assert widget.post("consent").json()["code"] == "consent_not_required"
    assert not Consent.objects.exists()


def test_a_network_leaves_few_consents(api, bot, openai):
    change(bot, enable_consent_compliance=True)
    answers = [Widget(api, bot).begin().post("consent") for _ in range(35)]
    assert Consent.objects.count() in (30, 35)  # the latter where a minute ended in between
    refused = [answer for answer in answers if answer.status_code != 200]
    assert all((answer.status_code, answer.json()["code"]) == (429, "rate_limit_exceeded") for answer in refused)


def test_a_consent_that_no_question_followed_is_deleted_after_a_week(api, bot, openai):
    change(bot, enable_consent_compliance=True)
    asked, silent, new = (Widget(api, bot).begin() for _ in range(3))
    for widget in (asked, silent, new):
        widget.token = widget.post("consent").json()["token"]
    asked.ask()
    of_new = Consent.objects.latest("pk")
    Consent.objects.exclude(pk=of_new.pk).update(given_at=timezone.now() - timedelta(days=8))
    leftovers._cleaning.__init__(every_seconds=3600)
    while leftovers.run_due():
        pass
    assert [consent.pk for consent in Consent.objects.order_by("pk")] == [of_new.pk - 2, of_new.pk]


# History, conversations, feedback


def test_reading_the_history_again_renders_nothing_again(widget):
    """Rendering takes milliseconds for each reply, and anybody with a long conversation can ask again and again."""
    uuid = widget.ask()[0][1]["conversation_uuid"]
    conversation = Conversation.objects.get()
    reply = "\n".join(f"* **{number}** [a](https://shop.example/{number}) `b`" for number in range(300))
    Message.objects.bulk_create(
        Message(conversation=conversation, role=Message.Role.BOT, content=f"{number} {reply}", message_id=f"m{number}")
        for number in range(100)
    )

    def seconds():
        started = time.process_time()
        assert widget.get("history", conversation_uuid=uuid).status_code == 200
        return time.process_time() - started

    first = seconds()
    assert min(seconds() for _ in range(3)) < first / 3


@pytest.mark.parametrize("name", ["history", "conversations"])
def test_reads_are_limited(widget, name):
    statuses = Counter(widget.get(name, conversation_uuid="x").status_code for _ in range(130))
    assert 10 <= statuses[429] <= 70
    last = next(answer for _ in range(130) if (answer := widget.get(name, conversation_uuid="x")).status_code == 429)
    assert (last.json()["code"], 1 <= int(last.headers["retry-after"]) <= 60) == ("rate_limit_exceeded", True)


def test_visitors_can_read_only_their_own_conversations(widget, api, bot):
    first = widget.ask("Do you really sell all the shoes?")[0][1]["conversation_uuid"]
    second = widget.ask("Hi")[0][1]["conversation_uuid"]
    known = widget.get("conversations").json()["conversations"]
    assert [(row["conversation_uuid"], row["title"], row["message_count"]) for row in known] == [
        (second, "Hi", 2),
        (first, "Do you really sell all…", 2),
    ]
    messages = widget.get("history", conversation_uuid=first).json()["messages"]
    assert [(message["role"], message["failed"], message["feedback"]) for message in messages] == [
        ("user", False, "none"),
        ("bot", False, "none"),
    ]
    assert messages[1]["html"].startswith("<p>")
    stranger = Widget(api, bot).begin()
    assert stranger.get("conversations").json() == {"conversations": []}
    for response in (stranger.get("history", conversation_uuid=first),
                     stranger.post("stream", message="Hi", conversation_uuid=first)):  # fmt: skip
        assert (response.status_code, response.json()["code"]) == (404, "conversation_not_found")


def test_visitors_cannot_read_conversations_of_the_api(widget, api, bot, openai):
    openai.pages["/v1/chat/completions"] = answering({"choices": [{"message": {"content": "Hi!"}}]})
    of_api = api.post(f"/chat/{bot.pk}/message", json={"messages": [{"role": "user", "content": "Hi"}]}).json()
    assert widget.get("history", conversation_uuid=of_api["conversation_uuid"]).status_code == 404


def test_feedback_can_be_given_changed_and_withdrawn(widget, api, bot):
    start = widget.ask()[0][1]
    for vote, stored in (("up", "up"), ("down", "down"), ("none", "")):
        ids = {"conversation_uuid": start["conversation_uuid"], "message_id": start["message_id"]}
        assert widget.post("feedback", **ids, feedback=vote).json()["feedback"] == vote
        assert Message.objects.get(role="bot").feedback == stored
    assert widget.post("feedback", **ids, feedback="great").json()["code"] == "rest_invalid_param"
    for changed in ({"message_id": start["question_id"]}, {"message_id": "x"}, {"conversation_uuid": "x"}):
        assert widget.post("feedback", **(ids | changed), feedback="up").json()["code"] == "message_not_found"
    stranger = Widget(api, bot).begin()
    assert stranger.post("feedback", **ids, feedback="up").status_code == 404


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
