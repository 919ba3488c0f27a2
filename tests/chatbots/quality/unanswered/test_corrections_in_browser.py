"""Mending the knowledge in a real browser: an answer is corrected, its document read, edited and embedded again."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.admin.golden_questions import completion_with
from tests.support.installation import Server, serving
from tests.support.upstream import answering, embedding, running
from tests.support.widget.browser import OWNER, axe, expect, in_browser, open_admin, pages

pytestmark = in_browser

SETUP = """
from chatbots.models import Chatbot
from vectorstores.ingestion import Destination
from vectorstores.sources.uploaded import as_lines, text_item
from vectorstores.uploads.queue import queue, run_due
place = Destination("local", "shop", "openai", "text-embedding-3-small")
queue(place, "text", "Returns", as_lines([text_item("Returns", "Shoes may be returned within 45 days.")]))
while run_due():
    pass
Chatbot.objects.create(
    name="Shop", provider="openai", model="gpt-4o-mini", enable_vector_store=True, collections=["shop"],
)
"""
QUESTION = "Within how many days may shoes be returned?"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running() as upstream, serving(tmp_path_factory.mktemp("corrections"), upstream) as server:
        upstream.pages["/v1/embeddings"] = embedding(1536)
        server.python(OWNER + SETUP)
        yield server


@pytest.fixture(params=[{}, {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}], ids=["", "phone"])
def page(browser: Any, server: Server, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Yield a page on which the owner is signed in. A failing script or request on any page fails the test."""
    with pages(browser) as new_page:
        page = new_page(**request.param)
        open_admin(page, server, path="/admin/chatbots/chatbot/1/try/")
        yield page


def check(page: Any, part: str) -> None:
    """Check that a part of the page is accessible, and that the page is no wider than the window."""
    found = axe.run(page, context={"include": [[part]]})
    assert [violation["id"] for violation in found.response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_a_wrong_answer_is_corrected_and_a_document_mended(server, page):
    says(server, "Within 14 days. [1]")
    page.fill("[name=question]", QUESTION)
    page.click("button[name=ask]")
    with page.expect_popup() as opened:
        page.click("text=Correct this answer")
    correction = opened.value
    expect(correction.locator(".said.answer")).to_have_text("Within 14 days. [1]")
    check(correction, ".turn")
    says(server, "Within 45 days. [1]")
    correction.fill("[name=answer]", "Within 45 days, with the receipt.")
    correction.click("text=Save and ask again")
    expect(correction.locator(".said.answer")).to_have_text(["Within 14 days. [1]", "Within 45 days. [1]"])
    expect(correction.locator("text=The chatbot found your answer.")).to_be_visible()
    check(correction, ".comparison")
    correction.locator("#new-reply ~ details li.used a", has_text=QUESTION).click()
    expect(correction.locator("pre.text")).to_have_text("Within 45 days, with the receipt.")
    expect(correction.locator("#document-bots + ul a")).to_have_text("Shop")
    check(correction, ".document")
    correction.goto(f"{correction.url.partition('/change/')[0]}/edit/")
    correction.fill("[name=text]", "Within 60 days.")
    check(correction, "form:has([name=text])")
    correction.click("text=Save and index")
    expect(correction.locator("pre.text")).to_have_text("Within 60 days.")
    server.upstream.sent.clear()
    if page.viewport_size["width"] < 1000:  # the buttons are in a menu
        correction.click("[x-on\\:click='showActions = !showActions']")
    correction.locator("text=Embed again").locator("visible=true").first.click()
    correction.click("#modal-content button[type=submit]")
    expect(correction.locator("text=The document was embedded again.")).to_be_visible()
    assert [sent.path for sent in server.upstream.sent] == ["/v1/embeddings"]


def says(server: Server, text: str) -> None:
    server.upstream.pages["/v1/chat/completions"] = answering(completion_with(text))
