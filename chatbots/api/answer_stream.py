"""The server-sent events of a turn: for the widget, and for API clients that accept text/event-stream."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from chatbots.conversation.sources import sources_json
from chatbots.conversation.turn_events import Found, Piece, Reply, Searching, Started, TurnEvent
from puffer.api import ApiError, Event, unexpected_error


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of client is sent a piece of the text, the reply, and an error."""

    text: Callable[[str], str]
    reply: Callable[[Reply], dict[str, Any]]
    error: Callable[[ApiError], dict[str, Any]]


async def answer_events(
    turn: AsyncGenerator[TurnEvent, None], form: Format, *, with_sources: bool
) -> AsyncGenerator[Event, None]:
    """Yield start, status, sources, delta (many), then done or error. It raises nothing.

    A second event `sources` replaces the first one: it holds what the reply cites.
    """
    shown = False
    try:
        async with aclosing(turn):
            async for event in turn:
                match event:
                    case Started(conversation, question_id, reply_id):
                        ids = {"message_id": reply_id, "question_id": question_id}
                        yield "start", {"conversation_uuid": conversation, **ids}
                    case Searching():
                        yield "status", {"status": "searching"}
                    case Found(passages) if with_sources:
                        shown = bool(passages)
                        yield "sources", sources_json(passages)
                    case Piece(text):
                        yield "delta", {"text": form.text(text)}
                    case Reply():
                        if shown:  # now with what is cited; none if the reply is the refusal
                            yield "sources", sources_json(event.passages, event.cited)
                        yield "done", await asyncio.to_thread(form.reply, event)
    except ApiError as error:
        yield "error", form.error(error)
    except Exception as error:
        yield "error", form.error(unexpected_error(error))
