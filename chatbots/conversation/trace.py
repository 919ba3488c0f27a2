"""The trace of a turn for the playground and golden questions: passages, prompt, reply, cost and time."""

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from chatbots.conversation.turn import follow_turn
from chatbots.conversation.turn_events import Asking, Found, Reply, Started
from chatbots.conversation.visitor import Visitor
from chatbots.models import Chatbot
from logs.usage import PriceBook
from puffer.api import ApiError


@dataclass(slots=True)
class TracedTurn:
    """The trace of a turn.

    `found` is None if nothing was searched, `asking` if no model was called, `reply` after an error.
    """

    question: str
    conversation_uuid: str = ""
    found: Found | None = None
    asking: Asking | None = None
    reply: Reply | None = None
    error: str = ""
    milliseconds: int = 0
    reply_id: str = ""  # of the reply in the log, also of a failed one; "" if the turn was refused

    def cost(self, prices: PriceBook) -> Decimal | None:
        """Return the completion's cost in US dollars, without the search; None if it is unknown."""
        if self.asking is None:
            return Decimal(0) if self.reply else None
        if self.reply is None or self.reply.usage is None:
            return None
        tokens = {"input_tokens": self.reply.usage.input_tokens, "output_tokens": self.reply.usage.output_tokens}
        return prices.cost({"provider": self.asking.provider, "model": self.reply.model, **tokens})


async def trace_turn(
    bot: Chatbot,
    question: str,
    *,
    history: Sequence[Mapping[str, Any]],
    visitor: Visitor,
    conversation_uuid: str = "",
) -> TracedTurn:
    """Take the turn and return its trace. An ApiError is recorded in `error`."""
    trace = TracedTurn(question, conversation_uuid)
    started = time.perf_counter()
    turn = follow_turn(
        bot, question, history=history, visitor=visitor, conversation_uuid=conversation_uuid, streamed=False
    )
    try:
        async with aclosing(turn):
            async for event in turn:
                match event:
                    case Started():
                        trace.conversation_uuid, trace.reply_id = event.conversation_uuid, event.reply_id
                    case Found():
                        trace.found = event
                    case Asking():
                        trace.asking = event
                    case Reply():
                        trace.reply = event
    except ApiError as error:
        trace.error = error.message
    trace.milliseconds = round((time.perf_counter() - started) * 1000)
    return trace
