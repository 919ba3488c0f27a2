"""Moderate the widget's questions: by banned addresses and words, which is free, and by OpenAI, which is a call."""

import asyncio
import logging
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from chatbots.conversation.visitor import Refusal, Visitor
from chatbots.guards.banned_words import phrases_in
from chatbots.models import Chatbot
from logs.models import Conversation
from providers.base import Capability
from providers.registry import get_provider
from puffer.api import ApiError
from puffer.net import read_ip

logger = logging.getLogger(__name__)

SECONDS_FOR_OPENAI = 5
MAPPED_BITS = 96  # of an IPv4-mapped IPv6 address, before the IPv4 address


def refuse_banned(bot: Chatbot, question: str, visitor: Visitor) -> None:
    """Raise Refusal, with the owner's text, if a visitor of the widget has a banned address or used a banned word."""
    if visitor.source != Conversation.Source.WIDGET:
        return
    if is_banned(bot.banned_ips, visitor.ip_address):
        raise Refusal(bot.banned_ips_message, status=403, code="ip_banned")
    if bot.banned_words and phrases_in(bot.banned_words).occur_in(question):
        raise Refusal(bot.banned_words_message, status=400, code="word_banned")


async def moderate(bot: Chatbot, question: str, visitor: Visitor) -> None:
    """Raise Refusal, with the owner's text, if OpenAI flags a visitor's question, or is required but unavailable."""
    if visitor.source != Conversation.Source.WIDGET or not bot.openai_moderation_enabled:
        return
    is_flagged = await is_flagged_by_openai(question)
    if is_flagged:
        raise Refusal(bot.openai_moderation_message, status=400, code="content_flagged_by_openai")
    if is_flagged is None and bot.openai_moderation_required:
        raise Refusal(bot.moderation_unavailable_message, status=503, code="moderation_unavailable")


# Addresses


def is_banned(entries: list[str], address: str) -> bool:
    ip = read_ip(address)
    return ip is not None and any(ip in network for network in networks(tuple(entries)))


@lru_cache(maxsize=64)
def networks(entries: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [unmapped(ip_network(entry, strict=False)) for entry in entries]


def unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return an IPv4-mapped IPv6 network as the IPv4 network, because read_ip() maps visitors' addresses as well."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < MAPPED_BITS:
        return network
    return IPv4Network((int(mapped), network.prefixlen - MAPPED_BITS))


# OpenAI


async def is_flagged_by_openai(question: str) -> bool | None:
    """Return whether OpenAI flags the question; None if it is unavailable."""
    try:
        async with asyncio.timeout(SECONDS_FOR_OPENAI):
            provider = await get_provider("openai", Capability.MODERATION)
            return await provider.moderate(question)
    except TimeoutError:
        logger.warning("a question was not moderated: OpenAI did not answer within %d seconds", SECONDS_FOR_OPENAI)
    except ApiError as error:
        logger.warning("a question was not moderated: %s", error.message)
    return None
