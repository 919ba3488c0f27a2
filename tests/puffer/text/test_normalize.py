"""Unicode normalization: the usual result, in a moment for any text."""

import unicodedata

import pytest

from logs.search import normalized
from puffer.text import normalize
from tests.support.processor import cpu_milliseconds

HEAPS = {
    "two marks in turns": "\u0315\u0316",
    "marks that are composed of two": "\u0344",
    "a sign that begins with a mark once it is decomposed": "\u0f73",
    "a sign that is a mark in compatibility forms only": "\uff9e\u0316",
    "marks beyond U+FFFF": "\U0001d165\U0001d16d",
    "marks of both planes": "\u0315\U0001d16d\u0316",
    "many kinds": "".join(chr(code) for code in range(0x300, 0x34F)),
}


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("name", HEAPS)
def test_heaps_of_marks_take_no_time(form, name):
    text = "a" + HEAPS[name] * (120_000 // len(HEAPS[name]))
    assert len(normalize(form, text)) < 200
    assert cpu_milliseconds(lambda: normalize(form, text), 200) < 200  # 20 on an idle machine


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "Ångström é",
        "ﬁ ﷺ ｆｕｌｌ",
        "किताब यह",
        "ກັບ ที่นี่",
        "👩🏽‍🚀 👍🏿 ❤️",
        "𒀀𒀁𒀂" * 50,
        "𝔘𝔫𝔦" * 50,
        "한글 각",
        "a" + "\u0301" * 30,
    ],
)
def test_ordinary_texts_are_normalized_as_ever(form, text):
    assert normalize(form, text) == unicodedata.normalize(form, text)


def test_a_very_long_text_is_cut():
    assert len(normalize("NFC", "é" * 3_000_000)) == 1_000_000


def test_searches_are_as_quick():
    assert cpu_milliseconds(lambda: normalized("a" + "\u0315\u0316" * 60_000), 200) < 200
