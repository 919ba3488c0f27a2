"""Forty questions to a model that cites: every mark leads to a source that holds the statement before it."""

import re

import pytest

from chatbots.models import Chatbot
from logs.models import Message
from tests.support.admin.golden_questions import completion_with
from tests.support.upstream import answering

THINGS = re.findall(
    r"\w+",
    "anchor basket candle drum easel fiddle goblet hammer inkwell jar kettle ladder mirror needle oar pillow quilt "
    "rope saddle teapot umbrella vase wheel xylophone yoke zither apron bucket compass dagger engine flute glove "
    "hourglass iron jug knife lantern mug notebook",
)
STATEMENTS = {thing: f"The {thing} weighs {100 + 7 * number} grams." for number, thing in enumerate(THINGS)}
# How models mark a passage: as asked, in other forms, and together with marks of passages that do not exist.
FORMS = ["[{0}]", "[Passage {0}]", "[{0}, 98]", "\u3010{0}\u2020source\u3011", "[^{0}]", "[{0}] [97]", "[sources: {0}]"]
PASSAGE = re.compile(r"^\[(\d+)\] (\S+)\n(.*)$", re.MULTILINE)
MARKED = re.compile(r"([^.\[\]]+\.) ?((?:\[\d+\])+)")


def cites_like_a_model(connection):
    """Reply with the statement of the passage about the thing in the question, and with one about another passage."""
    content = connection.received.json["messages"][-1]["content"]
    thing = content.rpartition("\n\n")[2].split()[-1].rstrip("?")
    passages = PASSAGE.findall(content)
    assert len(passages) > 1, "the model needs a passage that it leaves out"
    form = FORMS[THINGS.index(thing) % len(FORMS)]
    found = [(number, text) for number, title, text in passages if title.lower() == thing]
    others = [(number, text) for number, title, text in passages if title.lower() != thing]
    said = found + others[:1] * (THINGS.index(thing) % 3 == 0)  # every third reply cites two sources
    answering(completion_with(" ".join(f"{text} {form.format(number)}" for number, text in said)))(connection)


@pytest.mark.django_db
def test_cited_sources_hold_what_is_cited(api, openai, store):
    store(*({"id": thing, "content": text, "metadata": {"title": thing.title()}} for thing, text in STATEMENTS.items()))
    openai.pages["/v1/chat/completions"] = cites_like_a_model
    bot = Chatbot.objects.create(
        name="Scales", provider="openai", model="gpt-4o-mini", enable_vector_store=True, collections=["shop"],
        vector_store_top_k=4, vector_store_confidence_threshold=0,
    )  # fmt: skip
    marks = 0
    for thing in THINGS:
        question = {"role": "user", "content": f"What is the weight of the {thing}?"}
        answer = api.post(f"/chat/{bot.pk}/message", json={"messages": [question]}).json()
        sources = {source["number"]: source for source in answer["sources"]}
        statements = [(text.strip(), re.findall(r"\d+", found)) for text, found in MARKED.findall(answer["reply"])]
        assert STATEMENTS[thing] in [text for text, _ in statements]
        assert MARKED.sub("", answer["reply"]).strip() == ""  # no mark is left over
        for text, numbers in statements:
            assert [STATEMENTS[sources[int(number)]["title"].lower()] for number in numbers] == [text]
        shown = {int(number) for _, numbers in statements for number in numbers}
        assert {number for number, source in sources.items() if source["cited"]} == shown != set(sources)
        logged = Message.objects.filter(role="bot").latest("pk").passages
        assert {passage["number"] for passage in logged if passage["cited"]} == shown
        marks += len(shown)
    assert (len(THINGS), marks) == (40, 54)
