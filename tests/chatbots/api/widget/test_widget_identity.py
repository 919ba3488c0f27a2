"""Visitors' tokens, and identities signed by the site."""

import dataclasses
import time
from datetime import timedelta

import pytest
from django.core import signing
from django.core.management import CommandError, call_command
from django.utils import timezone

from chatbots.conversation.visitor import Identity
from chatbots.guards import sessions
from chatbots.models import Chatbot, SignedOutVisitor, UsedIdentity
from chatbots.models.limits import new_identity_secret
from logs.models import Conversation
from puffer.runtime import invalidate
from tests.support.widget.calls import SHOP, Widget
from tests.support.widget.visitors import change, signed


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
