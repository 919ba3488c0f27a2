"""The public endpoints that the widget calls from other websites.

They take no API key. The list of allowed sites, the visitor's token and the chatbot's limits protect them.
"""

import asyncio
from functools import lru_cache
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.answer_stream import Format, answer_events
from chatbots.api.widget_errors import (
    CannotAnswer,
    InvalidBotId,
    NoSuchBot,
    NoSuchConversation,
    OriginRefused,
)
from chatbots.conversation.sources import logged_sources
from chatbots.conversation.turn import follow_turn
from chatbots.conversation.turn_events import Reply
from chatbots.conversation.visitor import Refusal, Visitor
from chatbots.guards.consents import record_consent
from chatbots.guards.cors import allowed_origin
from chatbots.guards.sessions import (
    VALID_SECONDS,
    InvalidIdentity,
    InvalidVisitorToken,
    Session,
    consent_digest,
    is_signed_out,
    issue,
    needs_consent,
    new_session,
    read_token,
    renew,
    verify_identity,
)
from chatbots.models import Chatbot, live_bots
from chatbots.widget.config import MAX_MESSAGE_LENGTH, widget_config, widget_html
from chatbots.widget.events import publish_event
from logs.conversations import (
    MAX_CONVERSATIONS,
    Turn,
    as_prompt,
    conversations_of,
    read_messages,
    short_title,
    store_feedback,
)
from logs.models import Conversation, Feedback, Message
from logs.webhooks import EventName
from providers.api import usage_json
from puffer.api import (
    ApiError,
    AsyncAPIView,
    EventStream,
    Integer,
    Object,
    Parameters,
    String,
    TooManyCalls,
    site_url,
)
from puffer.http import RateLimit
from puffer.net import client_ip, network_of
from puffer.text import is_blank, render, without_bidi

visitor_reads, network_reads = RateLimit(60), RateLimit(600)  # per minute
NO_VOTE = "none"
CONFIG_SECONDS = 60  # for which browsers may cache a configuration
SESSION = {
    "type": "object",
    "properties": {
        "token": {"type": "string"},
        "expires_in": {"type": "integer", "description": "Seconds."},
        "visitor_id": {"type": "string"},
        "identified": {"type": "boolean"},
        "consent_required": {"type": "boolean", "description": "Whether the visitor must still agree."},
    },
}


class WidgetView(AsyncAPIView):
    """A widget call: sets `bot` (published), `origin` (allowed) and `session` (from the visitor's token)."""

    authentication_classes = []  # web pages are public, so they contain no API key
    permission_classes = []
    needs_session: ClassVar[bool] = True
    is_limited: ClassVar[bool] = False  # a read that costs more than most

    error_statuses: ClassVar[dict[str, str]] = {
        "401": "The visitor's token is missing, expired, or for another chatbot or site.",
        "403": "The chatbot may not be used on this site, or the visitor has not agreed yet.",
    }

    async def respond(self, request: Request, captured: dict[str, Any]) -> Response:
        self.headers["Vary"] = "origin"
        if request.method == "OPTIONS":
            return await super().respond(request, captured)
        if not captured["bot_id"]:
            raise InvalidBotId
        bot = await live_bots.get(str(captured["bot_id"]))
        if bot is None or not bot.is_published:
            raise NoSuchBot
        self.bot = bot
        self.origin = self.check_origin(request._request)
        if self.needs_session:
            scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
            self.session = read_token(bot, token.strip() if scheme.lower() == "visitor" else "", self.origin)
            if await is_signed_out(bot, self.session):
                raise InvalidVisitorToken
        if self.is_limited:
            self.check_rate()
        return await super().respond(request, captured)

    def check_rate(self) -> None:
        visitor = self.visitor()
        for reads, subject in ((visitor_reads, visitor.key), (network_reads, network_of(visitor.ip_address))):
            if not reads.allows(subject):
                raise TooManyCalls(headers={"Retry-After": reads.retry_after()})

    def check_origin(self, request: HttpRequest) -> str:
        origin = allowed_origin(self.bot, request)
        if origin is None:
            raise OriginRefused
        return origin

    def visitor(self) -> Visitor:
        identity = self.session.identity
        return Visitor(
            username=identity.name if identity else "",
            ip_address=client_ip(self.request._request),
            source=Conversation.Source.WIDGET,
            session_id=self.session.visitor_id,
            identity=identity,
        )

    def owner(self, conversation_uuid: str = "") -> Turn:
        """Return a turn that identifies the visitor's own conversations with this chatbot."""
        return self.visitor().turn(self.bot.pk, conversation_uuid)

    def session_json(self, session: Session) -> dict[str, Any]:
        return {
            "token": issue(self.bot, session),
            "expires_in": VALID_SECONDS,
            "visitor_id": session.visitor_id,
            "identified": session.identity is not None,
            "consent_required": needs_consent(self.bot, session),
        }


class EmbedConfigView(WidgetView):
    """GET /chatbots/{bot_id}/embed-config: everything a page needs to show the widget."""

    needs_session = False
    answer = {"type": "object", "properties": {"config": {"type": "object"}, "html": {"type": "string"}}}
    parameters = Parameters(lang=String(description="The page's language, used if the chatbot has none set."))

    def check_origin(self, request: HttpRequest) -> str:
        """Refuse requests without an Origin header, which do not say where the widget will be shown."""
        if "HTTP_ORIGIN" not in request.META and not self.bot.embed_allow_any_domain:
            raise OriginRefused
        if self.bot.embed_allow_any_domain:
            return ""
        return super().check_origin(request)

    async def get(self, request: Request, *, bot_id: int, lang: str | None) -> Response:
        self.headers["Cache-Control"] = f"public, max-age={CONFIG_SECONDS}"
        config = widget_config(self.bot, site_url(request._request), lang or "")
        return Response({"config": config, "html": widget_html(config)})


class SessionView(WidgetView):
    """POST /chatbots/{bot_id}/session: a token for a visitor, either new or renewed."""

    needs_session = False
    answer = SESSION
    parameters = Parameters(
        token=String(description="An earlier token, to stay the same visitor."),
        identity=Object(
            {
                "user_id": String(required=True),
                "name": String(),
                "email": String(),
                "timestamp": Integer(required=True, description="Unix seconds, when it was signed."),
                "nonce": String(required=True, description="A different value for each signature."),
                "hash": String(
                    required=True,
                    description="Hex HMAC-SHA256 of user_id, name, email, timestamp, nonce, by line.",
                ),
            },
            description="The visitor's identity, signed by the embedding site's server with the chatbot's secret.",
        ),
    )

    async def post(
        self, request: Request, *, bot_id: int, token: str | None, identity: dict[str, Any] | None
    ) -> Response:
        session = renew(self.bot, token, self.origin) if token else new_session(self.origin)
        if await is_signed_out(self.bot, session):
            session = session.as_guest()
        if identity:
            session = session.as_user(await sync_to_async(verify_identity)(self.bot, identity))
            if await is_signed_out(self.bot, session):
                raise InvalidIdentity
        if not token:
            self.session = session
            await publish_event(self.bot, self.visitor(), EventName.SESSION_STARTED, {"origin": self.origin})
        return Response(self.session_json(session))


class ConsentView(WidgetView):
    """POST /chatbots/{bot_id}/consent: the visitor agrees to the chatbot's consent text."""

    answer = SESSION

    async def post(self, request: Request, *, bot_id: int) -> Response:
        if not self.bot.enable_consent_compliance:
            raise ApiError("This chatbot asks for no consent.", status=400, code="consent_not_required")
        agreed = self.session.with_consent(consent_digest(self.bot))
        if not await sync_to_async(record_consent)(self.bot, self.visitor(), agreed.consent):
            raise TooManyCalls(headers={"Retry-After": "60"})
        return Response(self.session_json(agreed))


class StreamView(WidgetView):
    """POST /chatbots/{bot_id}/stream: answer a question as server-sent events, those of answer_events()."""

    answer = {"type": "string"}
    answer_media_type = "text/event-stream"
    parameters = Parameters(
        message=String(required=True, description=f"At most {MAX_MESSAGE_LENGTH} characters."),
        conversation_uuid=String(description="The visitor's conversation to continue. Leave out to begin a new one."),
    )

    async def post(self, request: Request, *, bot_id: int, message: str, conversation_uuid: str | None) -> Any:
        if needs_consent(self.bot, self.session):
            raise ApiError("The visitor has not agreed to the consent text yet.", status=403, code="consent_required")
        if is_blank(message) or len(message) > MAX_MESSAGE_LENGTH:
            raise ApiError(
                f"A message must have 1 to {MAX_MESSAGE_LENGTH} characters.",
                status=400,
                code="rest_aipkit_invalid_last_message",
            )
        history: list[dict[str, str]] = []
        if conversation_uuid:
            messages = await read_messages(self.owner(conversation_uuid), 2 * self.bot.max_messages)
            if messages is None:
                raise NoSuchConversation
            history = as_prompt(messages)
        turn = follow_turn(
            self.bot,
            message,
            history=history,
            visitor=self.visitor(),
            conversation_uuid=conversation_uuid or "",
            streamed=True,
        )
        return EventStream(answer_events(turn, FORMAT, with_sources=self.bot.show_sources))


@lru_cache(maxsize=500)
def rendered(text: str) -> str:
    """Return a reply as HTML, which takes milliseconds, from memory if it was shown lately."""
    return render(text)


def done_json(reply: Reply) -> dict[str, Any]:
    return {
        "message_id": reply.message_id,
        "text": without_bidi(reply.text),
        "html": rendered(reply.text),
        "usage": usage_json(reply.usage),
        "finish_reason": reply.finish_reason,
    }


def error_json(error: ApiError) -> dict[str, Any]:
    """Return a refusal with the owner's text, and any other error as CannotAnswer: its details are for the log only."""
    shown = error if isinstance(error, Refusal) else CannotAnswer(status=error.status)
    notice = shown.quota_notice if isinstance(shown, Refusal) else None
    return shown.body() | ({"quota_notice": notice} if notice else {})


FORMAT = Format(without_bidi, done_json, error_json)


class HistoryView(WidgetView):
    """GET /chatbots/{bot_id}/history: the messages of one of the visitor's conversations."""

    is_limited = True

    answer = {
        "type": "object",
        "properties": {
            "conversation_uuid": {"type": "string"},
            "messages": {"type": "array", "items": {"type": "object"}},
        },
    }
    parameters = Parameters(conversation_uuid=String(required=True))

    async def get(self, request: Request, *, bot_id: int, conversation_uuid: str) -> Response:
        messages = await read_messages(self.owner(conversation_uuid))
        if messages is None:
            raise NoSuchConversation
        # In a thread, because 100 KB of Markdown can take 0.1 seconds.
        shown = await asyncio.to_thread(lambda: [message_json(message, self.bot) for message in messages])
        return Response({"conversation_uuid": conversation_uuid, "messages": shown})


def message_json(message: Message, bot: Chatbot) -> dict[str, Any]:
    is_reply = message.role == Message.Role.BOT
    text = CannotAnswer.message if message.is_failure else message.content
    has_sources = bot.show_sources and text.strip() != bot.refusal_message.strip()
    return {
        "message_id": message.message_id,
        "role": message.role,
        "text": without_bidi(text),
        "html": rendered(text) if is_reply else "",
        "created_at": message.created_at.isoformat(),
        "sources": logged_sources(message.passages or []) if has_sources else [],
        "feedback": message.feedback or "none",
        "failed": message.is_failure,
    }


class ConversationsView(WidgetView):
    """GET /chatbots/{bot_id}/conversations: the visitor's conversations, newest first."""

    is_limited = True

    answer = {"type": "object", "properties": {"conversations": {"type": "array", "items": {"type": "object"}}}}

    async def get(self, request: Request, *, bot_id: int) -> Response:
        found = conversations_of(self.owner())[:MAX_CONVERSATIONS]
        return Response({"conversations": [conversation_json(conversation) async for conversation in found]})


def conversation_json(conversation: Any) -> dict[str, Any]:
    return {
        "conversation_uuid": conversation.conversation_uuid,
        "title": short_title(conversation.title),
        "updated_at": conversation.updated_at.isoformat(),
        "message_count": conversation.message_count,
    }


class FeedbackView(WidgetView):
    """POST /chatbots/{bot_id}/feedback: the visitor's vote on an answer."""

    answer = {
        "type": "object",
        "properties": {"message_id": {"type": "string"}, "feedback": {"type": "string"}},
    }
    parameters = Parameters(
        conversation_uuid=String(required=True),
        message_id=String(required=True),
        feedback=String(required=True, enum=[*Feedback.values, NO_VOTE]),
    )

    async def post(
        self, request: Request, *, bot_id: int, conversation_uuid: str, message_id: str, feedback: str
    ) -> Response:
        owner = self.owner(conversation_uuid)
        if not await store_feedback(owner, message_id, "" if feedback == NO_VOTE else feedback):
            raise ApiError("There is no such answer in your conversations.", status=404, code="message_not_found")
        return Response({"message_id": message_id, "feedback": feedback})
