"""Facts in texts: which are found, and in which sources they stand, however both write them."""

import pytest

from chatbots.quality.facts import Sources, facts_in
from tests.support.processor import cpu_milliseconds

PAGE = """\
Returns (https://shop.example/returns)
Shoes may be returned within 45 days, model AB-1234 within 60. It costs 1,000.50 EUR, or 1.200 Euro in Germany.
Ask Peter Müller at +49 30 1234567 or returns@shop.example. The shop opens at nine and closes at 9:30 pm.
“Nothing is final.” Seit dem 01.03.2026. 営業時間は九時からです。 السعر ٢٥٠
"""
# A text, the facts that its source lacks for certain, and those that it lacks in this form.
TEXTS = [
    ("Within 45 days, or 60.", [], []),
    ("1. Within 45 days\n2. or 60", [], []),
    ("## Within **45** days", [], []),
    ("Within 46 days.", ["46"], []),
    ("Within 7 days.", [], ["7"]),
    ("It costs 1000.50 EUR.", [], []),
    ("It costs 1 000,5 EUR.", [], []),
    ("It costs 1200 Euro.", [], []),
    ("It costs 1.30 Euro.", ["1.30"], []),
    ("The price is 250.", [], []),
    ("A 45-day right.", [], []),
    ("The ab1234, or AB 1234.", [], []),
    ("The AB-1235.", ["AB-1235"], []),
    ("Call +49 30 1234567.", [], []),
    ("Call 030 7654321.", ["7654321"], []),
    ("Opens at 9:00.", [], ["9:00"]),
    ("Opens at 9 a.m.", [], ["9 a.m"]),
    ("Closes at 21:30.", [], []),
    ("Closes at 22:15.", ["22:15"], []),
    ("Since 2026-03-01.", [], []),
    ("Since 3/1/2026, the 1st of March.", [], []),
    ("Since 2026-03-02.", [], ["2026-03-02"]),
    ("Since 2025-03-01.", ["2025"], ["2025-03-01"]),
    ("Ask Peter Müller.", [], []),
    ("Ask Herr Müller.", [], []),
    ("Ask Anna Schmidt.", ["Anna Schmidt"], []),
    ("Shoes May Be Returned", [], []),
    ("See [the page](https://shop.example/returns).", [], []),
    ("See https://shop.example/return-form.", ["https://shop.example/return-form"], []),
    ("Write to returns@shop.example.", [], []),
    ("Write to boss@shop.example.", ["boss@shop.example"], []),
    ("They say “nothing is final”.", [], []),
    ("They say „alles ist endgültig“.", ["alles ist endgültig"], []),
    ('They say "all is final".', ["all is final"], []),
    ("「営業時間」", [], []),
    ("「二十四時」", ["二十四時"], []),
]


@pytest.mark.parametrize(("text", "invented", "unclear"), TEXTS)
def test_facts_and_their_sources(text, invented, unclear):
    page = Sources([PAGE])
    missing = [fact for fact in facts_in(text) if not page.support(fact)]
    assert [fact.text for fact in missing if not fact.uncertain] == invented
    assert [fact.text for fact in missing if fact.uncertain] == unclear


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("Shoes may be returned", 1, 1),
        ("shoe RETURNS", 1, 1),
        ("Boats can be sailed", 0, 0),
        ("営業時間", 1, 1),
        ("二十四", 0, 0),
        ("45 [link](https://nowhere.example)", 0, 0.5),
        ("", 1, 1),
    ],
)
def test_the_share_of_words_that_sources_contain(text, least, most):
    assert least <= Sources([PAGE]).share_of(text) <= most


@pytest.mark.parametrize(
    "piece",
    ["A", "9", "9 ", "9.", "1.000.", "“", '"a', "[", "[a](", "a@", "www.", "Ab ", "a1-", "12:30-", "# ", "*", "九"],
)
def test_hostile_texts_take_linear_time(piece):
    text = piece * (100_000 // len(piece))
    page = Sources([text])

    def look_up():
        return [page.support(fact) for fact in facts_in(text)], page.share_of(text)

    assert cpu_milliseconds(look_up, 2000) < 2000
