"""Texts that try to run a script, by every way that leads into the widget: answers, earlier answers, sources, the
chatbot's own words. In a real browser: nothing runs, and nothing leaves for another host."""

import json
from typing import Any

import pytest

from tests.support.browser import expect, in_browser
from tests.support.markdown_attacks import PAYLOADS
from tests.support.upstream import embedding
from tests.support.widget_pages import COMPLETIONS, says

pytestmark = in_browser

TOGETHER = 40  # payloads in an answer
# Whatever a payload manages to call is written down, and every listener that it may want to wake is woken.
WATCH = """<script>
    ran = [];
    for (const name of ["alert", "confirm", "prompt", "print", "open"])
        window[name] = (...given) => ran.push([name, ...given.map(String)]);
    addEventListener("securitypolicyviolation", (event) => ran.push(["violation", event.blockedURI]));
</script>"""
LOOK = """() => {
    const inside = [...document.querySelector("puffer-chat").shadowRoot.querySelectorAll("*")];
    for (const one of inside)
        for (const name of ["mouseover", "focus", "toggle", "animationstart", "load", "error"])
            one.dispatchEvent(new Event(name));
    return {
        ran,
        strange: inside.filter((one) => /^(script|iframe|object|embed|link|meta|base|form|img|image|video|audio|math)$/i
            .test(one.localName)).map((one) => one.outerHTML),
        handlers: inside.flatMap((one) => one.getAttributeNames().filter((name) =>
            /^on|^srcdoc/.test(name) || (name === "style" && one.closest(".content, .sources")))),
        addresses: inside.flatMap((one) => one.href && typeof one.href === "string" ? [one.href] : [])
            .filter((address) => !/^(https?|mailto):/.test(address)),
    };
}"""
NOTHING = {"ran": [], "strange": [], "handlers": [], "addresses": []}


def ask(page: Any) -> None:
    count = page.locator(".message.bot").count()
    page.fill("textarea", "Do you sell shoes?")
    page.press("textarea", "Enter")
    answer = page.locator(".message.bot").nth(count)
    expect(answer.locator(".actions, .failure")).to_be_visible(timeout=20_000)


def batches() -> list[list[str]]:
    return [PAYLOADS[at : at + TOGETHER] for at in range(0, len(PAYLOADS), TOGETHER)]


def test_there_are_enough_of_them():
    assert len(set(PAYLOADS)) >= 120


@pytest.mark.parametrize("batch", range(len(batches())))
def test_in_an_answer_and_in_an_earlier_one(visit, model, batch):
    page = visit("inline", head=WATCH)
    model.pages[COMPLETIONS] = says("\n\n".join(batches()[batch]))
    ask(page)
    page.wait_for_timeout(200)
    assert page.evaluate(LOOK) == NOTHING
    page.reload()
    expect(page.locator(".message.bot")).to_have_count(1)
    page.wait_for_timeout(200)
    assert page.evaluate(LOOK) == NOTHING


def test_in_a_question_of_the_visitor(visit, model):
    page = visit("inline", head=WATCH)
    page.fill("textarea", "\n\n".join(PAYLOADS)[:7900])
    page.press("textarea", "Enter")
    expect(page.locator(".message.bot .actions")).to_be_visible(timeout=20_000)
    assert page.evaluate(LOOK) == NOTHING
    page.reload()
    expect(page.locator(".message.bot")).to_have_count(1)
    assert page.evaluate(LOOK) == NOTHING


def test_in_sources(visit, model, site):
    server = site.server
    server.upstream.pages["/v1/embeddings"] = embedding()
    items = [
        {
            "id": f"payload-{number}",
            "content": f"Do you sell shoes? {payload}",
            "metadata": {"title": f"Shoes {payload}"[:400], "url": address(number, payload)},
        }
        for number, payload in enumerate(PAYLOADS)
    ]
    # Written by hand, for the API's own cleaning would take much of it away.
    server.python(
        "import json; from asgiref.sync import async_to_sync; from vectorstores.ingestion.chunking import Chunk\n"
        "from vectorstores.ingestion.documents import NewDocument\n"
        "from vectorstores.ingestion import Destination, ingest\n"
        f"items = json.loads({json.dumps(items)!r})\n"
        "documents = [NewDocument(item['id'], [Chunk(item['content'], 0, len(item['content']))], item['metadata'])"
        " for item in items]\n"
        "async def store():\n"
        "    async for _ in ingest(documents, Destination('local', 'evil', 'openai', 'some-model')): pass\n"
        "async_to_sync(store)()\n"
        "from chatbots.models import Chatbot;"
        f"bot = Chatbot.objects.get(pk={site.bots['learned']}); bot.collections = ['evil'];"
        "bot.vector_store_top_k = 20; bot.save()"
    )
    page = visit("learned", head=WATCH)
    ask(page)
    for opener in page.locator(".message.bot details > summary, .message.bot .sources button").all():
        opener.click()
    assert page.get_by_text("Shoes", exact=False).count() > 10
    assert page.evaluate(LOOK) == NOTHING


def address(number: int, payload: str) -> str:
    schemes = [
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        'https://shop.example/"onclick=alert(1)',
    ]
    return schemes[number % 3] if number % 4 else payload[:300]


NAMES = [payload for payload in PAYLOADS if len(payload) < 150 and "\n" not in payload][::16]


SAY_IT = """
from chatbots.models import Chatbot
for payload in {payloads!r}:
    bot = Chatbot.objects.get(pk={like})
    bot.pk, bot.popup_delay, bot.conversation_starters = None, 0, [payload]
    for word in ("name", "greeting", "subgreeting", "input_placeholder", "footer_text", "popup_label_text"):
        setattr(bot, word, payload[:150])
    bot.header_online_text = payload[:100]
    bot.save(force_insert=True)
    print(bot.pk)
"""


@pytest.fixture(scope="module")
def bots_that_say_it(site):
    """A chatbot for each payload, with the payload in all of its own words."""
    made = site.server.python(SAY_IT.format(payloads=NAMES, like=site.bots["hinting"])).split()
    site.bots.update(zip(NAMES, map(int, made), strict=True))


@pytest.mark.parametrize("payload", NAMES)
def test_in_the_chatbot_s_own_words(visit, bots_that_say_it, payload):
    """Its owner is trusted with much, but not with the site that embeds it."""
    page = visit(payload, head=WATCH)
    page.locator(".launcher").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(LOOK) == NOTHING
