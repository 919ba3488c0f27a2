"""The admin in a real browser, as its owner sees it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.providers_on_loopback import CHAT_COMPLETION, embedding, running
from tests.puffer.test_serve import Server, start, stop

playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with requirements-dev.txt")

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium here"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("browser")
    with running() as upstream:
        upstream.pages["/v1/embeddings"] = embedding()
        upstream.serves("/v1/chat/completions", json.loads(json.dumps(CHAT_COMPLETION).replace("Hi!", "<b>Hi!</b>")))
        server = start(folder, f"sqlite:///{folder}/puffer.sqlite3", upstream)
        server.python(
            "from django.contrib.auth import get_user_model; from chatbots.models import Chatbot;"
            "get_user_model().objects.create_superuser('owner', password='correct horse');"
            "Chatbot.objects.create(name='Shop <i>bot</i>', provider='openai', model='gpt-4o-mini')"
        )
        yield server
        stop(server)


@pytest.fixture
def page(server: Server) -> Iterator[Any]:
    """The browser, its owner signed in. Nothing on any page may go wrong."""
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        page = browser.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("response", lambda response: wrong.append(response.url) if response.status >= 400 else None)
        page.goto(f"{server.url}/admin/")
        page.fill("input[name=username]", "owner")
        page.fill("input[name=password]", "correct horse")
        page.click("button[type=submit]")
        yield page
        browser.close()
        assert [url for url in wrong if "favicon" not in url] == []


def test_an_owner_tries_a_chatbot_and_reads_the_conversation(server, page):
    page.goto(f"{server.url}/admin/chatbots/chatbot/")
    page.click("text=Shop <i>bot</i>")
    page.click("text=Try it")
    page.fill("textarea[name=question]", "Do you sell shoes?")
    page.click("button:has-text('Ask')")
    page.wait_for_selector("text=<b>Hi!</b>")  # what a model says is shown, not obeyed

    page.goto(f"{server.url}/admin/logs/conversation/")
    assert "owner" in page.inner_text("#result_list")
    page.click("#result_list tbody a")
    page.wait_for_selector("text=Do you sell shoes?")


def test_an_owner_tries_a_question_and_deletes_the_document(server, page):
    key = server.manage("create_api_key", "browser").split()[-1]
    document = {"id": "returns", "content": "Shoes may be returned within 45 days.", "metadata": {"title": "Returns"}}
    call = {"provider": "local", "target_id": "shop", "embedding_provider": "openai", "embedding_model": "emb-1"}
    stored = requests.post(
        f"{server.url}/wp-json/aipkit/v1/vector-stores/upsert",
        json={**call, "vectors": [document]}, headers={"Authorization": f"Bearer {key}"}, timeout=30,
    )  # fmt: skip
    assert stored.status_code == 200, stored.text

    page.goto(f"{server.url}/admin/vectorstores/collection/")
    page.click("#result_list >> text=shop")
    page.wait_for_selector("text=Vectors in Local now: 1")
    page.click("text=Try a question")
    page.fill("textarea[name=question]", "Within how many days may shoes be returned?")
    page.click("button:has-text('Look it up')")
    page.wait_for_selector("text=Shoes may be returned within 45 days.")

    page.goto(f"{server.url}/admin/vectorstores/document/")
    page.click("#result_list >> text=Returns")
    page.click("text=Delete document")
    page.click("text=Yes, I’m sure")
    page.wait_for_selector("text=deleted successfully")
    assert "0 documents" in page.inner_text("body")
    page.goto(f"{server.url}/admin/vectorstores/collection/")
    page.click("#result_list >> text=shop")
    page.wait_for_selector("text=Vectors in Local now: 0")
