"""Who a visitor of the widget is: a signed token, bound to chatbot and origin. No cookie, no account, no row.

A browser asks for a token and sends it with every call. A site that knows its users signs who they are with the
chatbot's secret; each signature is taken once.
"""

import hashlib
import hmac
import re
import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from django.core import signing
from django.db import IntegrityError, transaction
from django.utils import timezone

from chatbots.conversation.visitor import Identity
from chatbots.models import Chatbot, UsedIdentity
from puffer.api import ApiError
from puffer.text import has_control_characters

VALID_SECONDS = 12 * 3600
RENEWABLE_SECONDS = 90 * 24 * 3600  # for which a browser stays the same visitor
IDENTITY_SECONDS = 300  # between the host's signing and our seeing it, clocks that differ included
MAX_ID, MAX_NAME, MAX_EMAIL = 200, 200, 254  # characters
NONCE = re.compile(r"[\w.~+/=-]{8,100}\Z", re.ASCII)


class InvalidVisitorToken(ApiError):
    status = 401
    code = "invalid_visitor_token"
    message = "The visitor's token is missing, too old, or of another chatbot or site."


class InvalidIdentity(ApiError):
    status = 401
    code = "invalid_identity"
    message = "The visitor's identity is not signed as it should be, too old, or was used before."


@dataclass(frozen=True, slots=True)
class Session:
    """What a token says. `origin` is the site that it was given to; `consent` a digest of the text agreed to."""

    visitor_id: str
    origin: str
    identity: Identity | None = None
    consent: str = ""

    def as_user(self, identity: Identity) -> "Session":
        return replace(self, identity=identity)

    def with_consent(self, digest: str) -> "Session":
        return replace(self, consent=digest)


def new_session(origin: str) -> Session:
    return Session(str(uuid.uuid4()), origin)


def issue(bot: Chatbot, session: Session) -> str:
    return signing.dumps(asdict(session), salt=salt_of(bot), compress=True)


def read_token(bot: Chatbot, token: str, origin: str) -> Session:
    """Raises InvalidVisitorToken."""
    return _read(bot, token, origin, VALID_SECONDS)


def renew(bot: Chatbot, token: str, origin: str) -> Session:
    """The session of an older token. Who the visitor was is forgotten once the token is no longer valid."""
    try:
        return _read(bot, token, origin, VALID_SECONDS)
    except InvalidVisitorToken:
        return replace(_read(bot, token, origin, RENEWABLE_SECONDS), identity=None)


def _read(bot: Chatbot, token: str, origin: str, max_age: int) -> Session:
    try:
        said: dict[str, Any] = signing.loads(token, salt=salt_of(bot), max_age=max_age)
    except signing.BadSignature:
        raise InvalidVisitorToken from None
    if said["origin"] != origin:
        raise InvalidVisitorToken
    identity = Identity(**said["identity"]) if said["identity"] else None
    return Session(said["visitor_id"], said["origin"], identity, said["consent"])


def salt_of(bot: Chatbot) -> str:
    """A new secret of the chatbot ends all its sessions."""
    secret = hashlib.sha256(bot.identity_secret.encode()).hexdigest()
    return f"chatbots.sessions:{bot.pk}:{secret}"


def signature(secret: str, user_id: str, name: str, email: str, timestamp: int, nonce: str) -> str:
    """HMAC-SHA256 over the five, one on each line, in hex: what the embedding site computes for its user."""
    said = "\n".join([user_id, name, email, str(timestamp), nonce])
    return hmac.new(secret.encode(), said.encode(), hashlib.sha256).hexdigest()


def verify_identity(bot: Chatbot, claimed: dict[str, Any]) -> Identity:
    """Uses the database, to take no signature twice. Raises InvalidIdentity."""
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
    return Identity(user_id, name, email)


def use_once(signature: str) -> None:
    now = timezone.now()
    UsedIdentity.objects.filter(expires_at__lt=now).delete()
    digest = hashlib.sha256(signature.encode()).hexdigest()
    try:
        with transaction.atomic():
            UsedIdentity.objects.create(digest=digest, expires_at=now + timedelta(seconds=2 * IDENTITY_SECONDS))
    except IntegrityError:
        raise InvalidIdentity from None


def consent_digest(bot: Chatbot) -> str:
    """Of what visitors are asked to agree to: another text must be agreed to anew."""
    return hashlib.sha256(f"{bot.consent_title}\n{bot.consent_message}".encode()).hexdigest()


def needs_consent(bot: Chatbot, session: Session) -> bool:
    return bot.enable_consent_compliance and session.consent != consent_digest(bot)
