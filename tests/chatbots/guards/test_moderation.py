"""Moderation of questions: banned IP addresses, banned words, and OpenAI's moderation API."""

import asyncio
import logging
import time

import openai  # noqa: F401  loading takes a second, which no single test should spend
import pytest
from asgiref.sync import async_to_sync

from chatbots.conversation.visitor import Refusal, Visitor
from chatbots.guards import moderation
from chatbots.guards.banned_words import phrases_in
from chatbots.guards.moderation import is_banned, moderate, refuse_banned
from logs.models import Conversation
from providers import registry
from tests.support.processor import cpu_milliseconds
from tests.support.providers.answers import environment
from tests.support.upstream import closed_port

FLAGGED = {"id": "modr-1", "model": "omni-moderation-latest", "results": [{"flagged": True, "categories": {}}]}
HARMLESS = {"id": "modr-2", "model": "omni-moderation-latest", "results": [{"flagged": False, "categories": {}}]}
VISITOR = Visitor(source=Conversation.Source.WIDGET, session_id="one", ip_address="192.0.2.1")


@async_to_sync
async def ask(bot, question="Shoes?", visitor=VISITOR):
    try:
        refuse_banned(bot, question, visitor)
        await moderate(bot, question, visitor)
    finally:
        await registry.close_clients()
        await asyncio.sleep(0)


def refusal(bot, *arguments):
    with pytest.raises(Refusal) as refused:
        ask(bot, *arguments)
    error = refused.value
    return error.status, error.code, error.message


# Refusals


def test_refusals_have_a_status_a_code_and_the_bots_message(bot, upstream):
    bot.banned_ips, bot.banned_ips_message = ["192.0.2.0/24"], "Not from there."
    bot.banned_words, bot.banned_words_message = "boots", "Not that word."
    bot.openai_moderation_enabled, bot.openai_moderation_message = True, "Not like this."
    assert refusal(bot, "boots") == (403, "ip_banned", "Not from there.")
    bot.banned_ips = []
    assert refusal(bot, "boots") == (400, "word_banned", "Not that word.")
    assert not upstream.sent  # the local checks run first: they cost nothing
    upstream.will_answer(FLAGGED)
    assert refusal(bot, "shoes") == (400, "content_flagged_by_openai", "Not like this.")


@pytest.mark.parametrize("source", [Conversation.Source.API, Conversation.Source.PREVIEW])
def test_only_visitors_of_the_widget_are_moderated(bot, upstream, source):
    bot.banned_ips, bot.banned_words, bot.openai_moderation_enabled = ["0.0.0.0/0"], "shoes", True
    ask(bot, "shoes", Visitor(source=source, ip_address="192.0.2.1"))
    assert not upstream.sent


def test_without_moderation_settings_openai_is_not_called(bot, upstream):
    ask(bot)
    assert not upstream.sent


# Addresses


@pytest.mark.parametrize(
    ("entry", "address", "banned"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.11", False),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.77/24", "192.0.2.1", True),  # has host bits set
        ("192.0.2.0/24", "192.0.3.1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.0/120", "192.0.2.9", True),
        ("::ffff:192.0.2.0/120", "192.0.3.9", False),
        ("::ffff:192.0.2.0/120", "::ffff:192.0.2.9", True),
        ("2001:db8::1", "2001:0db8:0000::0001", True),
        ("2001:db8::/64", "2001:db8::ffff:1", True),
        ("2001:db8::/64", "2001:db8:0:1::1", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("0.0.0.0/0", "192.0.2.1", True),
        ("::/0", "2001:db8::1", True),
        ("192.0.2.1", "", False),
    ],
)
def test_ipv4_and_ipv6_addresses_and_networks_can_be_banned(entry, address, banned):
    assert is_banned(["198.51.100.1", entry], address) is banned


# Words


@pytest.mark.parametrize(
    ("banned_words", "question", "banned"),
    [
        ("boots", "I like boots.", True),
        ("boots", "BOOTS!", True),
        ("Boots", "boots", True),
        ("boots", "bootstrap", False),
        ("boots", "reboots", False),
        ("boots", "boots2", False),
        ("hats, boots", "boots", True),
        ("hats\nboots\r\ncaps", "boots", True),
        (" , ,\n,", "anything , at all", False),
        ("red boots", "your red   boots?", True),
        ("red boots", "red\nboots", True),
        ("red boots", "red, boots", False),
        ("red boots", "red blue boots", False),
        ("red boots", "red red boots", True),  # the match restarts at the second word
        ("a a b", "a a a b", True),
        ("a b c d, b c x", "a b c x", True),  # the first phrase fails while the second is already matching
        ("a b c d, c", "a b c", True),  # one phrase within another
        ("boots", "_boots_", True),  # Markdown
        ("boots", "**boots**", True),
        ("c++", "I write C++.", True),
        ("c++", "vitamin c", False),
        ("b-o-o-t-s", "b-o-o-t-s", True),
        ("$$$", "for $$$!", True),
        ("boots.example", "see boots.example/x", True),
        ("straße", "STRASSE", True),
        ("STRASSE", "straße", True),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", True),  # a final sigma is a different character
        ("İstanbul", "i̇stanbul", True),
        ("café", "cafe\u0301", True),
        ("café", "cafe", False),
        ("boots", "ｂｏｏｔｓ", True),
        ("boots", "bo\u200bo\u00adts", True),
        ("boots", "b\u202eoots", True),
        ("ботинки", "Ботинки?", True),
        ("ботинки", "полуботинки", False),
        ("कि", "किताब", False),  # a vowel sign does not end the word
        ("किताब", "यह किताब है", True),
        ("حذاء", "حذاء جميل", True),
        ("坏词", "这是坏词吗", True),
        ("坏词", "坏 人", False),
        ("くつ", "このくつは", True),
        ("เลว", "คนเลวมาก", True),
        ("👢", "I like 👢!", True),
        ("(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!", False),  # regular expressions are matched as text
        ("bo.ts", "boots", False),
    ],
)
def test_banned_words_match_whole_words_and_phrases_in_any_spelling(banned_words, question, banned):
    assert phrases_in(banned_words).occur_in(question) is banned


INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180e\u200b\u200c\u200d\u200e\u202a\u2060\u2062\u2064\u2066"
    "\u206a\u2800\u3164\ufe00\ufe0f\ufeff\uffa0\ufff9\ufffb\ufffc\x00\x08\x7f\x9f\U0001bca0\U0001d159\U0001d173"
    "\U000e0001\U000e0041\U000e007f\U000e0100\U000e01ef"
)


@pytest.mark.parametrize("character", INVISIBLE, ids=lambda character: f"U+{ord(character):04X}")
def test_invisible_characters_hide_no_banned_word(character):
    assert phrases_in("boots").occur_in(f"my b{character}oo{character}{character}ts")
    assert phrases_in(f"bo{character}ots").occur_in("my boots")


@pytest.mark.parametrize(
    ("banned_words", "question", "banned"),
    [
        ("boots", "bооts", True),  # two Cyrillic letters
        ("boots", "ВООТЅ", True),  # all Cyrillic, but none that looks like no Latin one
        ("boots", "ЬooTs", True),
        ("boots", "my bοοts", True),  # Greek
        ("copy", "сору", True),
        ("boots", "ʙᴏᴏᴛꜱ", True),  # small capitals
        ("boots", "🅱🅾🅾🆃🆂", True),
        ("boots", "🅑🅞🅞🅣🅢", True),
        ("boots", "𝐛𝐨𝐨𝐭𝐬", True),
        ("boots", "ⓑⓞⓞⓣⓢ", True),
        ("boots", "ｂооｔs", True),
        ("boots", "b̶o̶o̶t̶s̶", True),
        ("boots", "b̷̛͎o̸o̴̡t̷s̵͓", True),
        ("boots", "b\u20e0oots", True),
        ("red boots", "rеd bооts", True),
        ("pot", "Мой рот болит", False),  # Russian for a mouth
        ("cop", "Уберите сор", False),
        ("сор", "Уберите сор", True),
        ("сор", "call a cop", False),
        ("boots", "μποτες και boοts", True),
        ("café", "cafe", False),
        ("cafe", "café", False),
        ("modem", "modern", False),
        ("10", "lo", False),
        ("naive", "naïve", False),
    ],
)
def test_look_alikes_hide_no_banned_word(banned_words, question, banned):
    assert phrases_in(banned_words).occur_in(question) is banned


HOSTILE = [
    ("words", "xyz " * 25_000),
    ("the beginnings of phrases", "a " * 50_000),
    ("signs", "!" * 100_000),
    ("underscores", "_" * 100_000),
    ("one word", "k" * 100_000),
    ("marks in no order", "a" + "\u0316\u0301" * 25_000),
    ("rare marks in no order", "\u0301\U0001d165\U0001d16d\u0316" * 7_000),
    ("a sentence in a sign", "\ufdfa" * 33_000),
    ("Chinese", "好" * 33_000),
    ("invisible", "\u200b" * 33_000),
    ("marks that combine only when they are decomposed", "ກ" + "\u0f73\uff9e" * 15_000),
    ("look-alikes", "Вооt" * 20_000),
    ("words of look-alikes", "Вооt д " * 14_000),
]


@pytest.mark.parametrize("question", [text for _, text in HOSTILE], ids=[name for name, _ in HOSTILE])
def test_matching_five_thousand_banned_words_is_fast(question):
    words = [f"word{number}" for number in range(4_900)]
    phrases = ["a " * length + "b" for length in range(1, 101)]
    banned = phrases_in(",".join(words + phrases))
    assert not banned.occur_in(question)
    assert cpu_milliseconds(lambda: banned.occur_in(question), 200) < 200  # 20 on an idle machine
    assert banned.occur_in(f"{question} word77 !")


# OpenAI


@pytest.fixture
def moderated(bot):
    bot.openai_moderation_enabled = True
    return bot


def test_only_the_question_is_sent_to_openai(moderated, upstream):
    upstream.will_answer(HARMLESS)
    ask(moderated, "Shoes?")
    (sent,) = upstream.sent
    assert (sent.method, sent.path, sent.json) == ("POST", "/v1/moderations", {"input": "Shoes?"})
    assert sent.headers["authorization"] == "Bearer sk-openai-0123456789"


def test_openai_moderates_bots_of_any_provider(moderated, upstream):
    moderated.provider = "claude"
    upstream.will_answer(FLAGGED)
    assert refusal(moderated)[1] == "content_flagged_by_openai"


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500, "body": {"error": {"message": "broken"}}},
        {"status": 429, "body": {"error": {"message": "slower"}}},
        {"status": 401, "body": {"error": {"message": "no such key"}}},
        {"body": b"no JSON"},
        {"body": {"results": []}},
        {"body": {"results": [{}]}},
        {"body": []},
    ],
)
def test_a_question_passes_with_a_warning_if_openai_fails(moderated, upstream, caplog, answer):
    upstream.will_answer(**answer)
    ask(moderated, "a secret question")
    assert "a question was not moderated" in caplog.text
    assert "secret" not in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_question_passes_if_openai_is_unreachable(moderated, settings, caplog):
    with closed_port() as url:
        settings.PROVIDER_ENVIRONMENT = environment(url)
        ask(moderated)
    assert "a question was not moderated" in caplog.text


def test_a_question_passes_if_openai_is_not_configured(moderated, settings, caplog):
    settings.PROVIDER_ENVIRONMENT = {}
    ask(moderated)
    assert "API key is missing for OpenAI" in caplog.text


def test_a_question_is_blocked_if_moderation_is_required_and_unavailable(moderated, upstream, settings):
    moderated.openai_moderation_required, moderated.moderation_unavailable_message = True, "Later, please."
    upstream.will_answer(HARMLESS)
    ask(moderated)
    upstream.will_answer(status=500, body={"error": {"message": "broken"}})
    assert refusal(moderated) == (503, "moderation_unavailable", "Later, please.")
    upstream.will_answer(FLAGGED)
    assert refusal(moderated)[1] == "content_flagged_by_openai"
    settings.PROVIDER_ENVIRONMENT = {}
    assert refusal(moderated) == (503, "moderation_unavailable", "Later, please.")


@pytest.mark.slow
def test_openai_times_out_after_five_seconds(moderated, upstream, caplog):
    upstream.will_stall()
    started = time.monotonic()
    ask(moderated)
    assert moderation.SECONDS_FOR_OPENAI <= time.monotonic() - started < moderation.SECONDS_FOR_OPENAI + 3
    assert "did not answer within 5 seconds" in caplog.text
    assert upstream.client_hung_up.wait(5)


def test_leaving_cancels_the_moderation_call(moderated, upstream):
    upstream.will_stall()

    @async_to_sync
    async def leave():
        asking = asyncio.create_task(moderate(moderated, "Shoes?", VISITOR))
        while not upstream.sent:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await registry.close_clients()

    leave()
    assert upstream.client_hung_up.wait(5)
