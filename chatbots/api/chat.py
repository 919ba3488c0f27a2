"""POST /chat/{bot_id}/message: chat through the API."""

import re
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.answer_stream import Format, answer_events
from chatbots.conversation.sources import SCHEMA, sources_json
from chatbots.conversation.turn import follow_turn, take_turn
from chatbots.conversation.turn_events import Reply
from chatbots.conversation.visitor import Visitor
from chatbots.models import Chatbot, live_bots
from providers.api import UPSTREAM_STATUSES, USAGE, usage_json
from puffer.api import ApiError, Array, AsyncAPIView, EventStream, Lenient, Object, Parameters, String, caller_of
from puffer.models import Scope
from puffer.net import client_ip
from puffer.text import is_blank

JSON, EVENT_STREAM = "application/json", "text/event-stream"
MAX_MESSAGES = 1000
MAX_CONTENT = 100_000  # characters of a message: what the log normalizes and searches
NOT_IN_UUIDS = re.compile(r"[^a-z0-9_-]")


def clean_uuid(value: Any) -> str:
    """Return the value without characters that no conversation's UUID has, or "" if it is not text."""
    return NOT_IN_UUIDS.sub("", value.lower())[:64] if isinstance(value, str) else ""


class ChatMessageView(AsyncAPIView):
    """POST /chat/{bot_id}/message: the chatbot's reply to the last message.

    Clients that prefer text/event-stream get it piece by piece, as the events of answer_events(). `done` has the fields
    of the whole answer. What is refused before the turn begins is an ordinary error, and any later failure an event.
    """

    required_scope = Scope.CHAT
    also_answers = (EVENT_STREAM,)
    error_statuses = UPSTREAM_STATUSES
    answer = {
        "type": "object",
        "properties": {
            "reply": {"type": "string"},
            "usage": USAGE,
            "bot_id": {"type": "integer"},
            "model": {"type": "string"},
            "conversation_uuid": {"type": "string"},
            "sources": SCHEMA,
        },
    }
    parameters = Parameters(
        messages=Array(
            Object(
                {
                    "role": String(required=True, enum=["user", "assistant"]),
                    "content": String(required=True, max_length=MAX_CONTENT),
                }
            ),
            required=True,
            max_items=MAX_MESSAGES,
            description="The conversation so far; the last message is the question.",
        ),
        conversation_uuid=Lenient(String(description="The logged conversation to continue."), clean_uuid),
    )

    async def post(
        self, request: Request, *, bot_id: int, messages: list[dict[str, Any]], conversation_uuid: str | None
    ) -> Response | EventStream:
        if not messages:
            raise ApiError(
                "messages must contain at least one message.", status=400, code="rest_aipkit_invalid_messages"
            )
        *history, last = messages
        if last["role"] != "user" or is_blank(last["content"]):
            raise ApiError(
                "The last message must have the role user and must not be empty.",
                status=400,
                code="rest_aipkit_invalid_last_message",
            )
        caller = caller_of(request)
        caller.require_bot(bot_id)
        bot = await live_bots.get(str(bot_id))
        if bot is None or not bot.answers_api_calls:
            raise ApiError("There is no such chatbot.", status=404, code="rest_aipkit_bot_not_found")
        visitor = Visitor(caller=caller, ip_address=client_ip(request._request))
        to_answer: dict[str, Any] = {
            "history": history,
            "visitor": visitor,
            "conversation_uuid": conversation_uuid or "",
        }
        self.headers["Vary"] = "Accept"
        if request._request.get_preferred_type([JSON, EVENT_STREAM]) == EVENT_STREAM:
            turn = follow_turn(bot, last["content"], **to_answer)
            with_sources = bot.uses_knowledge and bot.show_sources
            return EventStream(answer_events(turn, format_for(bot), with_sources=with_sources))
        return Response(answer_json(bot, await take_turn(bot, last["content"], **to_answer)))


def answer_json(bot: Chatbot, reply: Reply) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "reply": reply.text,
        "usage": usage_json(reply.usage),
        "bot_id": bot.pk,
        "model": reply.model,
        "conversation_uuid": reply.conversation_uuid,
    }
    if bot.uses_knowledge and bot.show_sources:
        answer["sources"] = sources_json(reply.passages, reply.cited)
    return answer


def format_for(bot: Chatbot) -> Format:
    return Format(text=str, reply=lambda reply: answer_json(bot, reply), error=ApiError.body)
