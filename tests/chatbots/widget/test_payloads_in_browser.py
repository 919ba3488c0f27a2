"""XSS payloads in every text that the widget shows, in a real browser: no script runs, no request leaves the site."""

import json
from typing import Any

import pytest

from tests.support.attacks.markdown import PAYLOADS
from tests.support.upstream import embedding
from tests.support.widget.browser import expect, in_browser
from tests.support.widget.chats import ask_and_wait
from tests.support.widget.pages import COMPLETIONS, says

pytestmark = in_browser

PAYLOADS_PER_ANSWER = 40
# Records the calls that a payload manages to make. LOOK then fires the events that a payload may listen to.
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
    return [PAYLOADS[at : at + PAYLOADS_PER_ANSWER] for at in range(0, len(PAYLOADS), PAYLOADS_PER_ANSWER)]


def test_there_are_enough_payloads():
    assert len(set(PAYLOADS)) >= 120


@pytest.mark.parametrize("batch", range(len(batches())))
def test_payloads_in_an_answer_and_in_the_history(visit, model, batch):
    page = visit("inline", head=WATCH)
    model.pages[COMPLETIONS] = says("\n\n".join(batches()[batch]))
    ask(page)
    page.wait_for_timeout(200)
    assert page.evaluate(LOOK) == NOTHING
    page.reload()
    expect(page.locator(".message.bot")).to_have_count(1)
    page.wait_for_timeout(200)
    assert page.evaluate(LOOK) == NOTHING


def test_payloads_in_a_question(visit, model):
    page = visit("inline", head=WATCH)
    page.fill("textarea", "\n\n".join(PAYLOADS)[:7900])
    page.press("textarea", "Enter")
    expect(page.locator(".message.bot .actions")).to_be_visible(timeout=20_000)
    assert page.evaluate(LOOK) == NOTHING
    page.reload()
    expect(page.locator(".message.bot")).to_have_count(1)
    assert page.evaluate(LOOK) == NOTHING


def test_payloads_in_sources(visit, model, site):
    server = site.server
    server.upstream.pages["/v1/embeddings"] = embedding()
    items = [
        {
            "id": f"payload-{number}",
            "content": f"Do you sell shoes? {payload}",
            "metadata": {"title": f"Shoes {payload}"[:400], "url": malicious_url(number, payload)},
        }
        for number, payload in enumerate(PAYLOADS)
    ]
    # Not through the API, which would sanitize the payloads.
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
    model.pages[COMPLETIONS] = says("".join(f"Shoes [{number}] " for number in range(1, 21)))
    page = visit("learned", head=WATCH)
    ask_and_wait(page)
    assert page.locator(".mark").count() == 20
    for opener in page.locator(".message.bot details > summary, .message.bot .mark button").all():
        opener.click()
    assert page.get_by_text("Shoes", exact=False).count() > 10
    assert page.evaluate(LOOK) == NOTHING


def malicious_url(number: int, payload: str) -> str:
    schemes = [
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        'https://shop.example/"onclick=alert(1)',
    ]
    return schemes[number % 3] if number % 4 else payload[:300]


SHORT_PAYLOADS = [payload for payload in PAYLOADS if len(payload) < 150 and "\n" not in payload][::16]


CREATE_BOTS = """
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
def bots_with_payloads(site):
    """Create a chatbot for each payload, with the payload in each of its texts."""
    made = site.server.python(CREATE_BOTS.format(payloads=SHORT_PAYLOADS, like=site.bots["hinting"])).split()
    site.bots.update(zip(SHORT_PAYLOADS, map(int, made), strict=True))


@pytest.mark.parametrize("payload", SHORT_PAYLOADS)
def test_payloads_in_the_chatbots_settings(visit, bots_with_payloads, payload):
    """The chatbot's owner must not be able to run scripts on the site that embeds it."""
    page = visit(payload, head=WATCH)
    page.locator(".launcher").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(LOOK) == NOTHING
