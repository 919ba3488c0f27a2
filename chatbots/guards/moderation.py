"""Moderation of the widget's questions: banned addresses and banned words cost nothing, OpenAI's moderation a call."""

import asyncio
import logging
import re
import unicodedata
from functools import cache, lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick

from chatbots.conversation.visitor import Refusal, Visitor
from chatbots.models import Chatbot
from logs.models import Conversation
from providers.base import Capability
from providers.registry import get_provider
from puffer.api import ApiError
from puffer.net import read_ip

logger = logging.getLogger(__name__)

SECONDS_FOR_OPENAI = 5
ENTRY_END = re.compile(r"[,\n\r]")
MAPPED_BITS = 96  # of an IPv4-mapped IPv6 address, before the IPv4 address
# Scripts without spaces between words, so a banned word matches anywhere: Thai, Lao, Myanmar, Khmer, kana, Han.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
INVISIBLE = re.compile(r"[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
LONG_WHEN_WRITTEN_OUT = "\ufdfa\ufdfb"  # single characters that NFKC expands to a whole phrase


def refuse_banned(bot: Chatbot, question: str, visitor: Visitor) -> None:
    """Raise Refusal, with the owner's text, if a visitor of the widget has a banned address or used a banned word."""
    if visitor.source != Conversation.Source.WIDGET:
        return
    if is_banned(bot.banned_ips, visitor.ip_address):
        raise Refusal(bot.banned_ips_message, status=403, code="ip_banned")
    if bot.banned_words and phrases_in(bot.banned_words).occur_in(question):
        raise Refusal(bot.banned_words_message, status=400, code="word_banned")


async def moderate(bot: Chatbot, question: str, visitor: Visitor) -> None:
    """Raise Refusal, with the owner's text, if OpenAI flags a visitor's question, or cannot be asked and must be."""
    if visitor.source != Conversation.Source.WIDGET or not bot.openai_moderation_enabled:
        return
    is_flagged = await openai_objects(question)
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


# Words


class Phrases:
    """Banned words and phrases, all found in one pass over a text, however they overlap."""

    def __init__(self, phrases: list[list[str]]) -> None:
        self.automaton = AhoCorasick(map(joined, phrases))

    def occur_in(self, text: str) -> bool:
        return bool(self.automaton.find_matches_as_indexes(joined(words_of(text))))


@lru_cache(maxsize=64)
def phrases_in(banned_words: str) -> Phrases:
    """Return the words and phrases of a text that separates them by commas or lines."""
    return Phrases([words for entry in ENTRY_END.split(banned_words) if (words := words_of(entry))])


def joined(words: list[str]) -> str:
    """Return the words with spaces around each, so that only whole words match."""
    return f" {' '.join(words)} "


def words_of(text: str) -> list[str]:
    """Split a text into words and single symbols, normalized: case, width, composition and invisible characters."""
    known = patterns()
    text = known.excess_marks.sub(r"\1", INVISIBLE.sub("", text.translate(known.ignored)))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return known.word_or_symbol.findall(text.replace("_", " "))


class Patterns(NamedTuple):
    ignored: dict[int, None]  # for str.translate(), which is faster than a pattern for this many characters
    excess_marks: re.Pattern[str]
    word_or_symbol: re.Pattern[str]


@cache
def patterns() -> Patterns:
    """Return the patterns, which include the marks that `\\w` lacks: accents, and the vowel signs of many languages.

    At most 30 marks in a row are kept, because normalization sorts them in quadratic time. Marks beyond U+FFFF belong
    to rare scripts; ignoring them makes the patterns 10 times as fast.
    """
    marks = "".join(mark for code in range(0x300, 0x10000) if is_mark(mark := chr(code)))
    rare_marks = "".join(mark for code in range(0x10000, 0x1E950) if is_mark(mark := chr(code)))
    return Patterns(
        ignored=dict.fromkeys(map(ord, LONG_WHEN_WRITTEN_OUT + rare_marks)),
        excess_marks=re.compile(f"([{marks}]{{30}})[{marks}]+"),
        word_or_symbol=re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])[\w{marks}])+|[^\w\s]"),
    )


def is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


# OpenAI


async def openai_objects(question: str) -> bool | None:
    """Return whether OpenAI flags the question; None if it cannot be asked."""
    try:
        async with asyncio.timeout(SECONDS_FOR_OPENAI):
            provider = await get_provider("openai", Capability.MODERATION)
            return await provider.moderate(question)
    except TimeoutError:
        logger.warning("a question was not moderated: OpenAI did not answer within %d seconds", SECONDS_FOR_OPENAI)
    except ApiError as error:
        logger.warning("a question was not moderated: %s", error.message)
    return None
