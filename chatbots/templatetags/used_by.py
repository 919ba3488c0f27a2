"""The chatbots that search a collection, for the admin pages of knowledge."""

from typing import Any

from django import template

from chatbots.models import Chatbot
from vectorstores.models import Collection
from vectorstores.registry import STORES

register = template.Library()


@register.inclusion_tag("admin/chatbots/used_by.html")
def used_by(collection: Collection, namespace: str = "") -> dict[str, Any]:
    bots = Chatbot.objects.filter(vector_store_provider=collection.store, enable_vector_store=True)
    if STORES[collection.store].has_namespaces:
        bots = bots.filter(namespace=namespace)
    return {"bots": [bot for bot in bots if collection.name in bot.collections]}
