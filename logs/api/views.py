"""GET /logs: conversations, oldest first, as AI Puffer's database holds them: every scalar is a string."""

import re
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.db.models import Prefetch
from django.utils.html import strip_tags
from pyroaring import FrozenBitMap
from rest_framework.request import Request
from rest_framework.response import Response

from logs.models import Conversation, Message
from logs.search.query import everything, with_bots, with_message, with_visitor
from puffer.api import AsyncAPIView, Integer, Lenient, Parameters, String, caller_of
from puffer.models import Scope

MAX_PER_PAGE = 100
MAX_PAGE = 10**9  # keeps the offset within 64 bits
LEADING_NUMBER = re.compile(r"\s*[+-]?\d{1,18}")


def absolute(value: Any) -> int:
    """Return the absolute whole number at the beginning of a value; 0 without one."""
    if isinstance(value, list | dict):
        return 1 if value else 0
    found = LEADING_NUMBER.match(str(int(value) if isinstance(value, bool | float) and abs(value) < 1e18 else value))
    return abs(int(found[0])) if found else 0


def within(low: int, high: int) -> Any:
    return lambda value: min(max(absolute(value), low), high)


def search_text(value: Any) -> str:
    """Return the value as text, without tags, NULs and repeated spaces."""
    if not isinstance(value, str):
        value = "" if isinstance(value, list | dict | None) else str(value)
    return " ".join(strip_tags(value.replace("\x00", "")).split())


class LogsView(AsyncAPIView):
    """GET /logs: a page of conversations with their messages. X-WP-Total and X-WP-TotalPages count all that match."""

    required_scope = Scope.LOGS
    answer = {"type": "array", "items": {"type": "object"}}
    parameters = Parameters(
        page=Lenient(Integer(default=1), within(1, MAX_PAGE)),
        per_page=Lenient(Integer(default=20, description="At most 100."), within(1, MAX_PER_PAGE)),
        bot_id=Lenient(Integer(description="Only conversations with this chatbot."), absolute),
        user_search=Lenient(String(description="In the display name, user name, e-mail or session id."), search_text),
        message_search=Lenient(String(description="In the text of a message."), search_text),
    )

    async def get(
        self,
        request: Request,
        *,
        page: int,
        per_page: int,
        bot_id: int | None,
        user_search: str | None,
        message_search: str | None,
    ) -> Response:
        find = sync_to_async(matching_conversations)
        found = await find(caller_of(request).bot_ids, bot_id, user_search, message_search)
        first = (page - 1) * per_page
        rows = await sync_to_async(read_page)(list(found[first : first + per_page]))
        headers = {"X-WP-Total": str(len(found)), "X-WP-TotalPages": str(-(-len(found) // per_page))}
        return Response(rows, headers=headers)


def matching_conversations(
    bot_ids: frozenset[int] | None, bot_id: int | None, user_search: str | None, message_search: str | None
) -> FrozenBitMap:
    """Return the conversations of the caller's chatbots (None: of all) that match every given filter."""
    found = everything() if bot_ids is None else with_bots(bot_ids)
    if bot_id:
        found &= with_bots([bot_id])
    if user_search:
        found &= with_visitor(user_search)
    if message_search:
        found &= with_message(message_search)
    return found


def read_page(ids: list[int]) -> list[dict[str, Any]]:
    messages = Prefetch("messages", Message.objects.defer("normalized"))
    found = Conversation.objects.filter(pk__in=ids).select_related("chatbot", "user").prefetch_related(messages)
    return [row(conversation) for conversation in found.order_by("id")]


def row(conversation: Conversation) -> dict[str, str | None]:
    messages = list(conversation.messages.all())
    last = messages[-1].created_at if messages else conversation.updated_at
    first = messages[0].created_at if messages else conversation.created_at
    return {
        "id": str(conversation.pk),
        "bot_id": text(conversation.chatbot_id),
        "user_id": conversation.external_user_id or text(conversation.user_id),
        "session_id": conversation.session_id,
        "conversation_uuid": conversation.conversation_uuid,
        "is_guest": "0" if conversation.user_id or conversation.external_user_id else "1",
        "module": "chat",
        "messages": orjson.dumps([message_json(message) for message in messages]).decode(),
        "message_count": str(conversation.message_count),
        "first_message_ts": str(int(first.timestamp())),
        "last_message_ts": str(int(last.timestamp())),
        "ip_address": conversation.ip_address,
        "user_wp_role": None,
        "created_at": f"{conversation.created_at:%Y-%m-%d %H:%M:%S}",
        "updated_at": f"{conversation.updated_at:%Y-%m-%d %H:%M:%S}",
        "user_display_name": conversation.visitor_name,
        "bot_name": conversation.bot_name,
    }


def text(value: Any) -> str | None:
    return None if value is None else str(value)


def message_json(message: Message) -> dict[str, Any]:
    known = {
        "message_id": message.message_id,
        "role": message.role,
        "content": message.content,
        "timestamp": int(message.created_at.timestamp()),
    }
    if message.role == Message.Role.BOT:
        known |= {"provider": message.provider, "model": message.model, "usage": message.usage}
        if message.feedback:
            known["feedback"] = message.feedback
        if message.passages:
            known["vector_search_scores"] = message.passages
    return known
