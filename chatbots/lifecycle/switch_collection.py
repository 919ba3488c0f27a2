"""Switch chatbots from one collection to another, such as after embedding it again."""

from django.db import transaction

from chatbots.models import Chatbot
from vectorstores.ingestion import Destination
from vectorstores.models import Collection
from vectorstores.registry import STORES

Kept = list[tuple[Chatbot, str]]  # chatbots that still use the old collection, and why


def switch_collection(old: str, new: Destination) -> tuple[list[Chatbot], Kept]:
    """Let the chatbots that search `old` search `new`, with its model. Return those that changed, and those kept."""
    switched: list[Chatbot] = []
    kept: Kept = []
    bots = [bot for bot in Chatbot.objects.filter(vector_store_provider=new.store) if old in bot.collections]
    with transaction.atomic():
        for bot in bots:
            reason = reason_to_keep(bot, old, new)
            if reason:
                kept.append((bot, reason))
                continue
            bot.collections = [new.target if name == old else name for name in bot.collections if name != new.target]
            if bot.vector_embedding_provider or bot.vector_embedding_model:
                bot.vector_embedding_provider, bot.vector_embedding_model = new.embedding_provider, new.embedding_model
            bot.save()
            switched.append(bot)
    return switched, kept


def reason_to_keep(bot: Chatbot, old: str, new: Destination) -> str:
    """Return why the chatbot cannot switch, or "". It embeds a question once, so all its collections need one model."""
    if STORES[new.store].has_namespaces and bot.namespace != new.namespace:
        return f"it uses the namespace {bot.namespace!r}, which was not embedded again."
    others = [name for name in bot.collections if name not in (old, new.target)]
    same_model = Collection.objects.filter(
        store=new.store,
        name__in=others,
        embedding_provider=new.embedding_provider,
        embedding_model=new.embedding_model,
    )
    if same_model.count() != len(set(others)):
        return f"not all its other collections use {new.embedding_model}."
    return ""
