"""The in-process cache of chatbots, read by every request for one."""

from chatbots.models.chatbot import Chatbot
from puffer.runtime import LiveCache


async def read_bot(bot_id: str) -> Chatbot | None:
    return await Chatbot.objects.filter(pk=int(bot_id)).afirst()


live_bots = LiveCache(read_bot)
