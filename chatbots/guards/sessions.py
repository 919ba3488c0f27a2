"""Visitor sessions of the widget: signed tokens, bound to a chatbot and an origin. No cookie, no account, no row.

A browser asks for a token and sends it with every call. A site can sign the identity of its user with the chatbot's
secret; each signature is accepted once, and identifies the visitor for a day however often the token is renewed.
"""

import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from django.core import signing
from django.db import IntegrityError, transaction
from django.utils import timezone

from chatbots.conversation.visitor import Identity, Visitor
from chatbots.models import Chatbot, SignedOutVisitor, UsedIdentity
from puffer.api import ApiError
from puffer.runtime import LiveCache, invalidate
from puffer.text import has_control_characters

VALID_SECONDS = 12 * 3600
RENEWABLE_SECONDS = 90 * 24 * 3600  # for this long a browser can renew its token and remain the same visitor
IDENTITY_SECONDS = 300  # from signing to verification; includes clock differences
MAX_IDENTITY_AGE = 24 * 3600  # seconds, from signing until the site must sign again; renewing a token changes nothing
MAX_ID, MAX_NAME, MAX_EMAIL = 200, 200, 254  # characters
NONCE = re.compile(r"[\w.~+/=-]{8,100}\Z", re.ASCII)


class InvalidVisitorToken(ApiError):
    status = 401
    code = "invalid_visitor_token"
    message = "The visitor's token is missing, expired, or for another chatbot or site. Request a new session."


class InvalidIdentity(ApiError):
    status = 401
    code = "invalid_identity"
    message = "The visitor's identity is not signed correctly, is too old, or was used before. Sign it again."


@dataclass(frozen=True, slots=True)
class Session:
    """The content of a token: `origin` is the site it was issued to, `consent` a digest of the text agreed to."""

    visitor_id: str
    origin: str
    identity: Identity | None = None
    consent: str = ""

    def as_user(self, identity: Identity) -> "Session":
        return replace(self, identity=identity)

    def as_guest(self) -> "Session":
        return replace(self, identity=None)

    def with_consent(self, digest: str) -> "Session":
        return replace(self, consent=digest)


def new_session(origin: str) -> Session:
    return Session(str(uuid.uuid4()), origin)


def issue(bot: Chatbot, session: Session) -> str:
    return signing.dumps(asdict(session), salt=salt_of(bot), compress=True)


def read_token(bot: Chatbot, token: str, origin: str) -> Session:
    """Return the session of a valid token. Raise InvalidVisitorToken, also if the site must sign the identity again."""
    session = _read(bot, token, origin, VALID_SECONDS)
    if session.identity and time.time() - session.identity.signed_at > MAX_IDENTITY_AGE:
        raise InvalidVisitorToken
    return session


def renew(bot: Chatbot, token: str, origin: str) -> Session:
    """Return the session of a token that may have expired. An expired token or identity leaves a guest."""
    try:
        return read_token(bot, token, origin)
    except InvalidVisitorToken:
        return _read(bot, token, origin, RENEWABLE_SECONDS).as_guest()


def _read(bot: Chatbot, token: str, origin: str, max_age: int) -> Session:
    try:
        content: dict[str, Any] = signing.loads(token, salt=salt_of(bot), max_age=max_age)
    except signing.BadSignature:
        raise InvalidVisitorToken from None
    if content["origin"] != origin:
        raise InvalidVisitorToken
    identity = Identity(**content["identity"]) if content["identity"] else None
    return Session(content["visitor_id"], content["origin"], identity, content["consent"])


def salt_of(bot: Chatbot) -> str:
    """Return the signing salt. It contains the chatbot's secret, so that a new secret ends all sessions."""
    secret = hashlib.sha256(bot.identity_secret.encode()).hexdigest()
    return f"chatbots.sessions:{bot.pk}:{secret}"


def signature(secret: str, user_id: str, name: str, email: str, timestamp: int, nonce: str) -> str:
    """Return the HMAC-SHA256, in hex, of the five values joined by newlines: what the embedding site computes."""
    signed = "\n".join([user_id, name, email, str(timestamp), nonce])
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()


def verify_identity(bot: Chatbot, claimed: dict[str, Any]) -> Identity:
    """Return the identity that a site has signed, and mark the signature as used. Raise InvalidIdentity."""
    user_id, name, email = claimed["user_id"], claimed.get("name") or "", claimed.get("email") or ""
    timestamp, nonce, given = claimed["timestamp"], claimed["nonce"], claimed["hash"]
    too_long = len(user_id) > MAX_ID or len(name) > MAX_NAME or len(email) > MAX_EMAIL
    if not user_id or too_long or has_control_characters(user_id + name + email) or not NONCE.match(nonce):
        raise InvalidIdentity
    if not bot.identity_secret or abs(time.time() - timestamp) > IDENTITY_SECONDS:
        raise InvalidIdentity
    expected = signature(bot.identity_secret, user_id, name, email, timestamp, nonce)
    if not hmac.compare_digest(expected.encode(), given.lower().encode(errors="replace")):
        raise InvalidIdentity
    use_once(f"{bot.pk}:{expected}")
    return Identity(user_id, name, email, signed_at=min(timestamp, int(time.time())))


def use_once(signature: str) -> None:
    """Mark the signature as used. Raise InvalidIdentity if it already is."""
    now = timezone.now()
    UsedIdentity.objects.filter(expires_at__lt=now).delete()
    SignedOutVisitor.objects.filter(signed_out_at__lt=now - timedelta(seconds=MAX_IDENTITY_AGE)).delete()
    digest = hashlib.sha256(signature.encode()).hexdigest()
    try:
        with transaction.atomic():
            UsedIdentity.objects.create(digest=digest, expires_at=now + timedelta(seconds=2 * IDENTITY_SECONDS))
    except IntegrityError:
        raise InvalidIdentity from None


# Signing out


async def _read_signed_out(bot_id: str) -> dict[str, float]:
    rows = SignedOutVisitor.objects.filter(chatbot=int(bot_id)).values_list("visitor", "signed_out_at")
    return {visitor: signed_out_at.timestamp() async for visitor, signed_out_at in rows}


signed_out_visitors = LiveCache(_read_signed_out)


async def is_signed_out(bot: Chatbot, session: Session) -> bool:
    """Return whether the session's user was signed out since the site signed their identity."""
    if session.identity is None:
        return False
    signed_out = await signed_out_visitors.get(str(bot.pk)) or {}
    return session.identity.signed_at <= signed_out.get(Visitor(identity=session.identity).key, -1)


def sign_out(bots: Iterable[Chatbot], user_id: str) -> None:
    """End all sessions of a site's user with these chatbots, in every worker, until the site signs the user again."""
    key = Visitor(identity=Identity(user_id)).key
    for bot in bots:
        SignedOutVisitor.objects.update_or_create(chatbot=bot, visitor=key, defaults={"signed_out_at": timezone.now()})
    invalidate()


# Consent


def consent_digest(bot: Chatbot) -> str:
    """Return a digest of the consent text. If the text changes, visitors must agree again."""
    return hashlib.sha256(f"{bot.consent_title}\n{bot.consent_message}".encode()).hexdigest()


def needs_consent(bot: Chatbot, session: Session) -> bool:
    return bot.enable_consent_compliance and session.consent != consent_digest(bot)
