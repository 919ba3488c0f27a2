"""A turn as somebody sees it who looks after the chatbot: what was found, what the model was sent, what it took."""

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from chatbots.conversation.turn import Asking, Found, Reply, Started, follow_turn
from chatbots.conversation.visitor import Visitor
from chatbots.models import Chatbot
from logs.usage import PriceBook
from puffer.api import ApiError


@dataclass(slots=True)
class TracedTurn:
    """`found` is None where nothing is looked up, `asking` where the model is not asked, `reply` after an error."""

    question: str
    conversation_uuid: str = ""
    found: Found | None = None
    asking: Asking | None = None
    reply: Reply | None = None
    error: str = ""
    milliseconds: int = 0

    def cost(self, prices: PriceBook) -> Decimal | None:
        """US dollars for the answer; None if unknown. Looking the question up is not in it."""
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
    """Take the turn and tell of it. What is refused or fails is in `error`."""
    watched = TracedTurn(question, conversation_uuid)
    started = time.perf_counter()
    turn = follow_turn(
        bot, question, history=history, visitor=visitor, conversation_uuid=conversation_uuid, streamed=False
    )
    try:
        async with aclosing(turn):
            async for event in turn:
                match event:
                    case Started(uuid):
                        watched.conversation_uuid = uuid
                    case Found():
                        watched.found = event
                    case Asking():
                        watched.asking = event
                    case Reply():
                        watched.reply = event
    except ApiError as error:
        watched.error = error.message
    watched.milliseconds = round((time.perf_counter() - started) * 1000)
    return watched
