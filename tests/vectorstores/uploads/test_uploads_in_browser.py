"""Adding content and watching its progress in a real browser. Chatting about it is tested in tests/test_browser.py."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.installation import Server, serving
from tests.support.upstream import embedding, running
from tests.support.widget.browser import OWNER, axe, expect, in_browser, open_admin, pages

pytestmark = in_browser

NASTY = "<img src=x onerror=alert(1)>"


embedding_allowed = threading.Event()  # set unless a test pauses calls with several texts
embedding_allowed.set()


def pausable_embedding(connection: Any) -> None:
    if len(connection.received.json["input"]) > 1:
        embedding_allowed.wait(60)
    embedding(1536)(connection)


@pytest.fixture
def paused_embedding() -> Iterator[threading.Event]:
    embedding_allowed.clear()
    yield embedding_allowed
    embedding_allowed.set()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running() as upstream, serving(tmp_path_factory.mktemp("uploads"), upstream) as server:
        upstream.pages["/v1/embeddings"] = pausable_embedding
        server.python(OWNER)
        yield server


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """Yield a page on which the owner is signed in. A failing script or request on any page fails the test."""
    with pages(browser) as new_page:
        page = new_page()
        open_admin(page, server)
        yield page


def upload_of(page: Any, name: str) -> Any:
    return page.locator("#result_list tr", has_text=name).locator("[data-upload]")


def test_files_are_uploaded_and_their_progress_is_shown(server, page, paused_embedding):
    page.goto(f"{server.url}/admin/vectorstores/collection/")
    page.click("text=Add content")
    page.fill("[name=new_collection]", "shop")
    rows = "\n".join(["content", *(f"Row number {number} of many." for number in range(400))])
    page.set_input_files(
        "[name=uploads]",
        [
            {
                "name": "returns.md",
                "mimeType": "text/markdown",
                "buffer": b"# Returns\n\nShoes go back within 45 days.",
            },
            {"name": "rows.csv", "mimeType": "text/csv", "buffer": rows.encode()},
            {"name": f"{NASTY}.jsonl", "mimeType": "text/plain", "buffer": b"no JSON"},
        ],
    )
    page.click("button:has-text('Add'):not(.add-pair)")
    page.evaluate("window.not_reloaded = true")

    expect.set_options(timeout=60_000)  # a worker takes a while to start on a busy machine
    progress_row = upload_of(page, "rows.csv")
    expect(progress_row).to_contain_text("Waiting for a worker.")
    expect(progress_row.locator("progress")).to_have_attribute("max", "400")
    expect(progress_row).to_contain_text("of 400 chunks")
    paused_embedding.set()
    expect(progress_row).to_contain_text("400 documents, 400 chunks")
    expect(progress_row.locator("progress")).to_be_hidden()
    expect(upload_of(page, "returns.md")).to_contain_text("1 document, 1 chunk")
    failed = upload_of(page, NASTY)
    expect(failed).to_contain_text("The line is not JSON")
    expect(failed.get_by_text("Cancel")).to_be_hidden()
    failed.get_by_text("Try again").click()
    expect(failed.get_by_text("Try again")).to_be_hidden()
    expect(failed).to_contain_text("The line is not JSON")
    assert page.evaluate("window.not_reloaded")


def test_the_form_shows_the_fields_of_the_chosen_kind(server, page):
    page.goto(f"{server.url}/admin/vectorstores/upload/add/")
    title, files = page.locator("[name=title]"), page.locator("[name=uploads]")
    expect(files).to_be_visible()
    expect(title).to_be_hidden()
    page.click("label:has-text('Text')")
    expect(files).to_be_hidden()
    expect(title).to_be_visible()
    page.click("label:has-text('Questions and answers')")
    expect(title).to_be_hidden()
    expect(page.locator(".pair")).to_have_count(4)
    page.click("text=Add another question")
    expect(page.locator("[name=pairs-4-question]")).to_be_focused()
    page.fill("[name=pairs-4-question]", "Where are you?")
    page.fill("[name=pairs-4-answer]", "In Bremen.")
    page.fill("[name=new_collection]", "questions")
    page.click("button:has-text('Add'):not(.add-pair)")
    expect(page.locator("[name=pairs-0-question]")).to_be_visible()  # the first pair is required
    page.fill("[name=pairs-0-question]", "Are you there?")
    page.fill("[name=pairs-0-answer]", "Yes.")
    page.click("button:has-text('Add'):not(.add-pair)")
    expect(upload_of(page, "Questions: 2")).to_contain_text("2 documents, 2 chunks")


@pytest.mark.parametrize("path", ["upload/add/", "upload/"])
def test_axe_finds_no_violations_in_our_parts(server, page, path):
    page.goto(f"{server.url}/admin/vectorstores/upload/add/")
    page.click("label:has-text('Text')")
    page.fill("[name=title]", "Hours")
    page.fill("[name=text]", "Open from nine to five.")
    page.fill("[name=new_collection]", path.replace("/", ""))
    page.click("button:has-text('Add'):not(.add-pair)")
    page.wait_for_selector("[data-upload]")
    page.goto(f"{server.url}/admin/vectorstores/{path}")
    part = ".add-content" if "add" in path else "[data-upload]"
    page.wait_for_selector(part)
    found = axe.run(page, context=json.loads(json.dumps({"include": [[part]]})))
    assert [violation["id"] for violation in found.response["violations"]] == []
