"""Citations: each mark in a reply names a source that was found, and only what is marked counts as cited."""

import json

import pytest

from chatbots.conversation.citations import Citations, without_marks
from chatbots.models import Chatbot
from logs.models import Message
from tests.support.knowledge.shop import OPENING, RETURNS
from tests.support.processor import cpu_milliseconds
from tests.support.providers.answers import CHAT_COMPLETION

# A model's text; the text that is shown with 3 sources; the numbers that it cites.
REPLIES = [
    ("Thirty days [1].", "Thirty days [1].", {1}),
    ("Thirty days.[2]", "Thirty days.[2]", {2}),
    ("[3] says so.", "[3] says so.", {3}),
    ("Both [1][2].", "Both [1][2].", {1, 2}),
    ("Both [1] [2].", "Both [1] [2].", {1, 2}),
    ("Both [1, 2].", "Both [1][2].", {1, 2}),
    ("Both [1,2] .", "Both [1][2] .", {1, 2}),
    ("Both [1; 3].", "Both [1][3].", {1, 3}),
    ("Both [1 & 3].", "Both [1][3].", {1, 3}),
    ("All [1-3].", "All [1][2][3].", {1, 2, 3}),
    ("All [1\u20133].", "All [1][2][3].", {1, 2, 3}),
    ("Twice [2] and [2].", "Twice [2] and [2].", {2}),
    ("Named [Passage 2].", "Named [2].", {2}),
    ("Named [source: 1].", "Named [1].", {1}),
    ("Named [Sources 1, 2].", "Named [1][2].", {1, 2}),
    ("Footnote [^2].", "Footnote [2].", {2}),
    ("Wide \u30101\u3011.", "Wide [1].", {1}),
    ("Wide \u30102\u2020L1-L9\u3011.", "Wide [2].", {2}),
    ("Wide \u30102\u2020source\u3011\u30103\u2020source\u3011", "Wide [2][3]", {2, 3}),
    ("Unknown [4].", "Unknown.", set()),
    ("Unknown [0].", "Unknown.", set()),
    ("Unknown [99], known [1].", "Unknown, known [1].", {1}),
    ("Partly [2, 7].", "Partly [2].", {2}),
    ("Unknown \u30109\u2020x\u3011 !", "Unknown !", set()),
    ("The year [2024] stays.", "The year [2024] stays.", set()),
    ("Status [404] stays.", "Status [404] stays.", set()),
    ("A [link](https://a.example) stays.", "A [link](https://a.example) stays.", set()),
    ("A [1](https://a.example) stays.", "A [1](https://a.example) stays.", set()),
    ("A box [x] and [ ] stay.", "A box [x] and [ ] stay.", set()),
    ("Code `a[1]` stays [2].", "Code `a[1]` stays [2].", {2}),
    ("```py\na[1] = b[9]\n```\nSo [1].", "```py\na[1] = b[9]\n```\nSo [1].", {1}),
    ("``a ` [9]`` [9] b", "``a ` [9]`` b", set()),
    ("One ` lost [1]\nthen [2].", "One ` lost [1]\nthen [2].", {2}),
    ("- one [1]\n- two [2]\n", "- one [1]\n- two [2]\n", {1, 2}),
    ("| a [1] | b [5] |", "| a [1] | b |", {1}),
    ("An open [", "An open [", set()),
    ("An open [1", "An open [1", set()),
    ("An open \u30101", "An open \u30101", set()),
    ("A long [bracket that is no mark of anything at all, 1] stays.",) * 2 + (set(),),
    ("No mark.", "No mark.", set()),
    ("  Blank  \n\n [1]  ", "  Blank  \n\n [1]  ", {1}),
    ("شكرا [1]، ٣٠ يوما [2]", "شكرا [1]، ٣٠ يوما [2]", {1, 2}),
]


@pytest.mark.parametrize(("text", "shown", "cited"), REPLIES)
def test_marks_resolve_however_the_text_is_split(text, shown, cited):
    for size in range(1, len(text) + 1):
        citations = Citations(3)
        pieces = [citations.add(text[start : start + size]) for start in range(0, len(text), size)]
        assert ("".join(pieces) + citations.end(), citations.cited) == (shown, cited), size


def test_text_is_not_held_back_for_long():
    citations = Citations(3)
    assert citations.add("Thirty days [") == "Thirty days"
    assert citations.add("of grace, and of no more than that") == " [of grace, and of no more than that"


@pytest.mark.parametrize("piece", [" ", "[", "[1", "[1,", "`", "\u3010", "[1] ", "[1-9]", "\n[1]"])
def test_marks_are_found_in_linear_time(piece):
    assert cpu_milliseconds(lambda: Citations(3).add(piece * 100_000), 1000) < 1000


def test_all_marks_can_be_removed():
    assert without_marks("Thirty days [1], with receipt [2][3]. `a[1]`") == "Thirty days, with receipt. `a[1]`"


@pytest.fixture
def bot(db, openai, store):
    store(RETURNS, OPENING)
    return Chatbot.objects.create(
        name="Shop", provider="openai", model="gpt-4o-mini", enable_vector_store=True, collections=["shop"],
        vector_store_top_k=2, vector_store_confidence_threshold=0,
    )  # fmt: skip


def says(openai, text):
    answer = json.loads(json.dumps(CHAT_COMPLETION))
    answer["choices"][0]["message"]["content"] = text
    openai.serves("/v1/chat/completions", answer)


def ask(api, bot, question="Within how many days may shoes be returned?", history=()):
    return api.post(f"/chat/{bot.pk}/message", json={"messages": [*history, {"role": "user", "content": question}]})


def prompt_of(openai):
    return [sent.json for sent in openai.sent if sent.path.endswith("/completions")][-1]["messages"]


def test_sources_say_which_are_cited(api, bot, openai):
    says(openai, "Within 45 days [1]. Or never [7].")
    answer = ask(api, bot).json()
    assert answer["reply"] == "Within 45 days [1]. Or never."
    assert [(source["number"], source["title"], source["cited"]) for source in answer["sources"]] == [
        (1, "Returns", True),
        (2, "Opening hours", False),
    ]
    assert "such as [1]" in prompt_of(openai)[-1]["content"]
    assert [(passage["number"], passage["cited"]) for passage in Message.objects.get(role="bot").passages] == [
        (1, True),
        (2, False),
    ]


def test_a_later_prompt_contains_no_earlier_marks(api, bot, openai):
    history = [{"role": "user", "content": "Array [1]?"}, {"role": "assistant", "content": "45 days [1]. More [2]?"}]
    ask(api, bot, "Yes please", history)
    assert [message["content"] for message in prompt_of(openai)[1:-1]] == ["Array [1]?", "45 days. More?"]
    embedded = [sent.json["input"] for sent in openai.sent if sent.path.endswith("/embeddings")][-1]
    assert embedded == ["Yes please", "Array [1]?\nMore?\nYes please"]


def test_a_bot_that_hides_its_sources_shows_no_marks(api, bot, openai):
    bot.show_sources = False
    bot.save()
    says(openai, "Within 45 days [1].")
    answer = ask(api, bot).json()
    assert (answer["reply"], "sources" in answer) == ("Within 45 days.", False)
    assert "such as [1]" not in prompt_of(openai)[-1]["content"]


def test_a_refusal_with_a_mark_is_a_refusal(api, bot, openai):
    bot.only_from_sources = True
    bot.save()
    says(openai, f"{bot.refusal_message} [2]")
    answer = ask(api, bot).json()
    assert (answer["reply"], answer["sources"]) == (bot.refusal_message, [])


def test_passages_of_one_document_share_a_number(api, bot, openai, store):
    metadata = {"title": "Long", "date": "2026-03-01"}
    store({"id": "long", "content": "Shoes may be returned. " * 400, "metadata": metadata})
    bot.vector_store_top_k = 5
    bot.save()
    says(openai, "See [1], [2] and [3].")
    answer = ask(api, bot, "May shoes be returned?").json()
    assert len(answer["sources"]) == len({source["title"] for source in answer["sources"]}) == 3
    assert all(source["cited"] for source in answer["sources"])
    content = prompt_of(openai)[-1]["content"]
    assert content.count("Long\n(2026-03-01)\n") > 1
    assert "Returns\n(https://shop.example/returns)\n" in content
