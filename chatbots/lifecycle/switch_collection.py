"""Which collections chatbots use, when one takes the place of another."""

from django.db import transaction

from chatbots.models import Chatbot
from vectorstores.ingestion import Destination
from vectorstores.models import Collection
from vectorstores.registry import STORES

Left = list[tuple[Chatbot, str]]


def switch_collection(old: str, new: Destination) -> tuple[list[Chatbot], Left]:
    """Those that look things up in `old` do so in `new`, with its model. Gives also those that were left, and why."""
    switched: list[Chatbot] = []
    left: Left = []
    bots = [bot for bot in Chatbot.objects.filter(vector_store_provider=new.store) if old in bot.collections]
    with transaction.atomic():
        for bot in bots:
            reason = reason_to_leave(bot, old, new)
            if reason:
                left.append((bot, reason))
                continue
            bot.collections = [new.target if name == old else name for name in bot.collections if name != new.target]
            if bot.vector_embedding_provider or bot.vector_embedding_model:
                bot.vector_embedding_provider, bot.vector_embedding_model = new.embedding_provider, new.embedding_model
            bot.save()
            switched.append(bot)
    return switched, left


def reason_to_leave(bot: Chatbot, old: str, new: Destination) -> str:
    """A chatbot embeds a question once, so all its collections must be of one model. "" if there is none."""
    if STORES[new.store].has_namespaces and bot.namespace != new.namespace:
        return f"it uses the namespace {bot.namespace!r}, which was not embedded anew."
    others = [name for name in bot.collections if name not in (old, new.target)]
    same_model = Collection.objects.filter(
        store=new.store,
        name__in=others,
        embedding_provider=new.embedding_provider,
        embedding_model=new.embedding_model,
    )
    if same_model.count() != len(set(others)):
        return f"not all its other collections are of {new.embedding_model}."
    return ""
