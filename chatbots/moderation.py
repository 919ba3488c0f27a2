"""May this question be asked? Banned addresses, banned words, and OpenAI's opinion, in the order of what they cost."""

import asyncio
import logging
import re
import unicodedata
from functools import cache, lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick

from chatbots.models import Chatbot
from chatbots.visitor import Refusal, Visitor
from logs.models import Conversation
from providers.adapters.openai import OpenAI
from providers.base import Capability
from providers.registry import get_provider
from puffer.api.errors import ApiError
from puffer.client_ip import read_ip

logger = logging.getLogger(__name__)

SECONDS_FOR_OPENAI = 5
ENTRY_END = re.compile(r"[,\n\r]")
MAPPED_BITS = 96  # of an IPv6 address, before the IPv4 address that it wraps
# Scripts without spaces between words, where a banned word is found anywhere: Thai, Lao, Myanmar, Khmer, kana, Han.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
INVISIBLE = re.compile(r"[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
LONG_WHEN_WRITTEN_OUT = "\ufdfa\ufdfb"  # one sign each, which NFKC turns into a whole sentence


async def moderate(bot: Chatbot, question: str, visitor: Visitor) -> None:
    """Raise Refusal, with the bot's text, for a question of the widget's visitor that may not be asked."""
    if visitor.source != Conversation.Source.WIDGET:
        return
    if is_banned(bot.banned_ips, visitor.ip_address):
        raise Refusal(bot.banned_ips_message, status=403, code="ip_banned")
    if bot.banned_words and phrases_in(bot.banned_words).occur_in(question):
        raise Refusal(bot.banned_words_message, status=400, code="word_banned")
    if bot.openai_moderation_enabled and await openai_objects(question):
        raise Refusal(bot.openai_moderation_message, status=400, code="content_flagged_by_openai")


# Addresses


def is_banned(entries: list[str], address: str) -> bool:
    ip = read_ip(address)
    return ip is not None and any(ip in network for network in networks(tuple(entries)))


@lru_cache(maxsize=64)
def networks(entries: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [unwrapped(ip_network(entry, strict=False)) for entry in entries]


def unwrapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """A network of IPv4 addresses that is written as IPv6 is one of IPv4, as those addresses are."""
    wrapped = getattr(network.network_address, "ipv4_mapped", None)
    if wrapped is None or network.prefixlen < MAPPED_BITS:
        return network
    return IPv4Network((int(wrapped), network.prefixlen - MAPPED_BITS))


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
    """Words and single signs, alike for all ways to write the same: case, width, composition, what nobody sees."""
    signs = patterns()
    text = signs.heap_of_marks.sub(r"\1", INVISIBLE.sub("", text.translate(signs.ignored)))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return signs.word_or_sign.findall(text.replace("_", " "))


class Patterns(NamedTuple):
    ignored: dict[int, None]  # for str.translate(), which is faster with many
    heap_of_marks: re.Pattern[str]
    word_or_sign: re.Pattern[str]


@cache
def patterns() -> Patterns:
    """With the marks that `\\w` lacks: accents, and the vowel signs that many languages write.

    Of a heap of them on one letter thirty are kept, for to put them in order takes time by the square of their number.
    Those beyond U+FFFF belong to rare scripts; without them the patterns are ten times as fast.
    """
    marks = "".join(mark for code in range(0x300, 0x10000) if is_mark(mark := chr(code)))
    rare_marks = "".join(mark for code in range(0x10000, 0x1E950) if is_mark(mark := chr(code)))
    return Patterns(
        ignored=dict.fromkeys(map(ord, LONG_WHEN_WRITTEN_OUT + rare_marks)),
        heap_of_marks=re.compile(f"([{marks}]{{30}})[{marks}]+"),
        word_or_sign=re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])[\w{marks}])+|[^\w\s]"),
    )


def is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


# OpenAI


async def openai_objects(question: str) -> bool:
    """False also if OpenAI can't be asked: a chatbot that nobody can talk to is the greater harm."""
    try:
        async with asyncio.timeout(SECONDS_FOR_OPENAI):
            openai = await get_provider(OpenAI.slug, Capability.COMPLETION)
            assert isinstance(openai, OpenAI)
            return await openai.objects_to(question)
    except TimeoutError:
        logger.warning("a question was not moderated: OpenAI did not answer within %d seconds", SECONDS_FOR_OPENAI)
    except ApiError as error:
        logger.warning("a question was not moderated: %s", error.message)
    return False
