"""End-to-end tests in a real browser: an owner works in the admin, and a visitor of another site uses the widget."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.installation import Server, serving, wait_until
from tests.support.providers.answers import CHAT_COMPLETION, CHAT_END, chat_chunk
from tests.support.upstream import Connection, Upstream, answering, embedding, running, streaming
from tests.support.widget.browser import OWNER, expect, in_browser, open_admin, pages, tab

BOT = "Shop <i>bot</i>"
QUESTION = "Within how many days may shoes go back?"
pytestmark = in_browser


def answer_from_passages(connection: Connection) -> None:
    """Answer like a model that knows only the passages in its prompt."""
    request = connection.received.json
    days = re.search(r"within (\d+) days", json.dumps(request["messages"]))
    text = f"You have {days[1]} days." if days else "I do not know."
    if request.get("stream"):
        streaming([chat_chunk({"content": text}), *CHAT_END], 0, "end", {})(connection)
    else:
        answering(json.loads(json.dumps(CHAT_COMPLETION).replace("Hi!", text)))(connection)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a new server whose only data is the owner's account."""
    with running() as upstream, serving(tmp_path_factory.mktemp("browser"), upstream) as server:
        upstream.pages["/v1/embeddings"] = embedding(1536)
        upstream.pages["/v1/chat/completions"] = answer_from_passages
        server.python(OWNER)
        yield server


@pytest.fixture
def site() -> Iterator[Upstream]:
    """Yield the website that embeds the chatbot."""
    with running() as site:
        site.serves("/favicon.ico", b"", 204)
        yield site


@pytest.fixture
def new_page(browser: Any) -> Iterator[Any]:
    """Yield a function that opens a page in a new context, like a new visitor; fail on errors in any page."""
    with pages(browser) as new_page:
        yield new_page


@pytest.fixture
def page(server: Server, new_page: Any) -> Any:
    """Return a page of the admin with the owner signed in."""
    page = new_page()
    open_admin(page, server)
    return page


def dashboard_values(page: Any, server: Server) -> dict[str, str]:
    """Return {title: value} of the dashboard's cards."""
    page.goto(f"{server.url}/admin/")
    titles = page.locator(".dashboard-cards dt").all_inner_texts()
    return dict(zip(titles, page.locator(".dashboard-cards dd.value").all_inner_texts(), strict=True))


def test_an_owner_creates_a_chatbot_that_answers_a_visitor_from_an_uploaded_file(server, page, new_page, site):
    before = dashboard_values(page, server)
    assert (before["Conversations"], before["Messages"], before["Tokens"]) == ("0", "0", "0")

    snippet = create_bot(page, server, site)
    try_in_playground(page)
    upload(page, server, "returns.md", b"# Returns\n\nShoes go back within 45 days.")
    ask_on_the_site(new_page(), site, snippet)
    read_the_conversation(page, server)

    # 46 tokens: two questions, two answers, the file and a search
    wait_until(lambda: dashboard_values(page, server)["Tokens"] == "46")
    after = dashboard_values(page, server)
    assert (after["Conversations"], after["Messages"], after["Errors"]) == ("2", "4", "0")
    assert BOT in page.inner_text(".dashboard")


def create_bot(page: Any, server: Server, site: Upstream) -> str:
    """Create a published chatbot for the site and return its embed snippet."""
    page.goto(f"{server.url}/admin/chatbots/chatbot/")
    page.click("a[href$='/chatbot/add/']")
    page.fill("#id_name", BOT)
    page.select_option("#id_status", "published")
    tab(page, "Model")
    page.select_option("#id_provider", "openai")
    page.fill("#id_model", "gpt-4o-mini")
    tab(page, "Knowledge")
    page.click("label[for=id_enable_vector_store]")
    page.fill("#id_collections", "manual")
    tab(page, "Install")
    page.fill("#id_embed_allowed_domains", site.url)
    page.click("button[name=_continue]")
    page.wait_for_selector("text=was added successfully")
    tab(page, "Install")
    return page.inner_text("#snippet")


def try_in_playground(page: Any) -> None:
    page.click("text=Try it")
    page.fill("textarea[name=question]", "Do you sell shoes?")
    page.click("button:has-text('Ask')")
    expect(page.locator(".turn .answer")).to_have_text("I do not know.")


def upload(page: Any, server: Server, name: str, content: bytes) -> None:
    """Upload a file to a new collection; check that the upload page shows the progress without a reload."""
    page.goto(f"{server.url}/admin/vectorstores/collection/")
    page.click("text=Add content")
    page.fill("[name=new_collection]", "manual")
    page.set_input_files("[name=uploads]", [{"name": name, "mimeType": "text/markdown", "buffer": content}])
    page.click("button:has-text('Add'):not(.add-pair)")
    page.evaluate("window.not_reloaded = true")
    progress = page.locator("#result_list tr", has_text=name).locator("[data-upload]")
    expect(progress).to_contain_text("1 document, 1 chunk", timeout=60_000)  # a worker may take a while to start
    assert page.evaluate("window.not_reloaded")


def ask_on_the_site(page: Any, site: Upstream, snippet: str) -> None:
    html = f'<!doctype html><meta charset="utf-8"><title>Shoes</title><h1>Shoes</h1>{snippet}'
    site.serves("/", html.encode(), headers={"content-type": "text/html"})
    page.goto(site.url)
    page.click(".launcher")
    page.fill("textarea", QUESTION)
    page.press("textarea", "Enter")
    answer = page.locator(".message.bot").last
    expect(answer).to_contain_text("You have 45 days.")
    expect(answer.locator(".sources")).to_contain_text("Returns")


def read_the_conversation(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/admin/logs/conversation/")
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    page.fill("#searchbar", "how many DAYS")
    page.press("#searchbar", "Enter")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.click("#result_list tbody a")
    expect(page.locator(".chat .question .chat-text")).to_have_text(QUESTION)
    answer = page.locator(".chat .answer")
    expect(answer.locator(".chat-text")).to_have_text("You have 45 days.")
    answer.locator("summary").click()
    passage = answer.locator("details li")
    expect(passage).to_contain_text("Returns")
    expect(passage.locator("blockquote")).to_contain_text("Shoes go back within 45 days.")


def test_an_owner_tries_a_question_and_deletes_the_document(server, page):
    key = server.manage("create_api_key", "browser").split()[-1]
    document = {"id": "returns", "content": "Shoes may be returned within 45 days.", "metadata": {"title": "Refunds"}}
    call = {"provider": "local", "target_id": "shop", "embedding_provider": "openai", "embedding_model": "emb-1"}
    response = requests.post(
        f"{server.url}/wp-json/aipkit/v1/vector-stores/upsert",
        json={**call, "vectors": [document]}, headers={"Authorization": f"Bearer {key}"}, timeout=30,
    )  # fmt: skip
    assert response.status_code == 200, response.text

    page.goto(f"{server.url}/admin/vectorstores/collection/")
    page.click("#result_list >> text=shop")
    page.wait_for_selector("text=1 passage is indexed in Local")
    page.click("text=Try a question")
    page.fill("textarea[name=question]", "Within how many days may shoes be returned?")
    page.click("form[method=post] button:has-text('Search')")
    page.wait_for_selector("text=Shoes may be returned within 45 days.")

    page.goto(f"{server.url}/admin/vectorstores/document/")
    page.click("#result_list >> text=Refunds")
    page.click("text=Delete document")
    page.click("text=Yes, I’m sure")
    page.wait_for_selector("text=deleted successfully")
    expect(page.locator("#result_list", has_text="Refunds")).to_have_count(0)
    page.goto(f"{server.url}/admin/vectorstores/collection/")
    page.click("#result_list >> text=shop")
    page.wait_for_selector("text=0 passages are indexed in Local")
