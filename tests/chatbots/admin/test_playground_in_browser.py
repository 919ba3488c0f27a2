"""Choosing models and collections, the playground and the golden questions in a real browser."""

import json
from collections.abc import Iterator

import pytest

from tests.support.installation import Server, serving
from tests.support.providers.answers import CHAT_COMPLETION
from tests.support.upstream import embedding, running, stalling
from tests.support.widget.browser import axe, expect, in_browser, tab

pytestmark = in_browser

ROWS = """
from django.contrib.auth import get_user_model
from chatbots.models import Chatbot
from providers.models import ProviderConfig
from vectorstores.models import Collection
get_user_model().objects.create_superuser("owner", password="correct horse")
ProviderConfig.objects.filter(slug="openai").update(known_models=["gpt-4o-mini", "gpt-5"], default_model="gpt-5")
ProviderConfig.objects.filter(slug="claude").update(known_models=["claude-a"])
for store, name in (("local", "shop"), ("local", "faq"), ("qdrant", "far")):
    Collection.objects.create(store=store, name=name, embedding_provider="openai", embedding_model="emb-1")
Chatbot.objects.create(name="Shop", provider="openai", model="gpt-4o-mini", instructions="Sell shoes.")
"""

GOLDEN_QUESTION = """
from chatbots.models import GoldenQuestion
GoldenQuestion.objects.get_or_create(chatbot_id=1, question="Open?", expected_facts="hi")
"""


@pytest.fixture(scope="module")
def upstream():
    with running() as upstream:
        upstream.pages["/v1/embeddings"] = embedding()
        upstream.serves("/v1/chat/completions", json.loads(json.dumps(CHAT_COMPLETION).replace("Hi!", "<b>Hi!</b>")))
        yield upstream


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("playground"), upstream) as server:
        server.python(ROWS)
        yield server


def options_of(page, field: str) -> list[str]:
    return page.eval_on_selector(f"#id_{field}", "field => [...field.list.options].map((option) => option.value)")


def hint_of(page, field: str):
    return page.locator(f"#id_{field} ~ .choices-hint")


def test_models_follow_the_provider(sign_in):
    page = sign_in("owner")
    tab(page, "Model")
    assert options_of(page, "model") == ["gpt-4o-mini", "gpt-5"]
    expect(hint_of(page, "model")).to_contain_text("Known models of OpenAI: 2. Default: gpt-5.")
    page.select_option("#id_provider", "claude")
    assert options_of(page, "model") == ["claude-a"]
    page.select_option("#id_provider", "deepseek")
    assert options_of(page, "model") == []
    expect(hint_of(page, "model")).to_contain_text(
        "No models of DeepSeek are known yet. Refresh the model list. Default: "
    )
    assert "/admin/providers/providerconfig/" in hint_of(page, "model").locator("a").get_attribute("href")
    page.select_option("#id_provider", "")  # Automatic (first connected provider)
    assert options_of(page, "model") == ["gpt-4o-mini", "gpt-5"]
    tab(page, "Knowledge")
    page.click("label[for=id_enable_vector_store]")
    assert options_of(page, "vector_embedding_model") == []
    page.select_option("#id_vector_embedding_provider", "openai")
    assert options_of(page, "vector_embedding_model") == ["gpt-4o-mini", "gpt-5"]


def test_collections_are_chosen_with_checkboxes_or_typed(sign_in):
    page = sign_in("owner")
    tab(page, "Knowledge")
    page.click("label[for=id_enable_vector_store]")
    known = page.locator(".known-collections label")
    expect(known).to_have_text(["faqemb-1", "shopemb-1"])
    known.nth(1).click()
    known.nth(0).click()
    expect(page.locator("#id_collections")).to_have_value("shop\nfaq")
    known.nth(1).click()
    expect(page.locator("#id_collections")).to_have_value("faq")
    page.fill("#id_collections", "other\nshop")
    expect(page.locator(".known-collections input:checked")).to_have_value("shop")
    page.select_option("#id_vector_store_provider", "qdrant")
    expect(known).to_have_text(["faremb-1"])
    page.select_option("#id_vector_store_provider", "chroma")
    expect(page.locator(".known-collections")).to_have_text("No collections in Chroma are known yet.")


def test_settings_are_tried_then_saved_then_restored(server, upstream, sign_in):
    page = sign_in("owner")
    page.fill("#id_instructions", "Talk like a sailor.")
    with page.context.expect_page() as opened:
        page.click("text=Try these settings")
    page = opened.value
    expect(page.locator("#unsaved")).to_have_text("Not saved: Instructions")
    page.click("#id_question")
    page.keyboard.type("Ahoy?")
    page.keyboard.press("Enter")
    answer = page.locator(".turn .answer")
    expect(answer).to_have_text("<b>Hi!</b>")  # markup in an answer is shown as text
    expect(page.locator("#id_question")).to_have_value("")
    expect(page.locator(".turn .figures")).to_contain_text("11 + 5 tokens")
    page.click("text=Prompt: 1 message")
    expect(page.locator(".turn pre").first).to_have_text("Talk like a sailor.")

    page.fill("#id_temperature", "0.2")
    page.fill("#id_question", "Second")
    page.click("button[name=ask]")
    expect(answer).to_have_count(2)
    expect(page.locator("#unsaved")).to_have_text("Not saved: Instructions, Temperature")
    assert [message["content"] for message in upstream.sent[-1].json["messages"]] == [
        "Talk like a sailor.", "Ahoy?", "<b>Hi!</b>", "Second",
    ]  # fmt: skip

    page.fill("#id_temperature", "9")
    page.fill("#id_question", "Third")
    page.click("button[name=ask]")
    expect(page.locator("#problems")).to_contain_text("Temperature: Ensure this value is less than or equal to 2")
    expect(page.locator("#id_question")).to_have_value("Third")

    page.click("text=New conversation")
    expect(page.locator("#turns")).to_have_text("Ask a question to start.")
    page.fill("#id_temperature", "0.3")
    page.click("button[name=ask]")
    expect(answer).to_have_count(1)
    assert len(upstream.sent[-1].json["messages"]) == 2
    found = axe.run(page, context="#chatbot_form")
    assert found.violations_count == 0, found.generate_report()

    page.click("text=Save these settings")
    page.wait_for_selector("text=was changed successfully")
    (bot,) = json.loads(server.manage("export_chatbots"))
    assert (bot["instructions"], bot["temperature"]) == ("Talk like a sailor.", 0.3)

    page.click("a[href$='/1/history/']")
    page.wait_for_selector("del:has-text('Sell shoes.')")
    page.click("text=Restore this version")
    page.click("button:has-text('Restore this version')")
    page.wait_for_selector("text=was restored")
    (bot,) = json.loads(server.manage("export_chatbots"))
    assert (bot["instructions"], bot["temperature"]) == ("Sell shoes.", 1.0)


def test_publishing_waits_for_the_golden_questions(server, sign_in):
    page = sign_in("owner", "/admin/chatbots/chatbot/1/golden-questions/")
    page.fill("#id_golden_questions-0-question", "Open?")
    page.fill("#id_golden_questions-0-expected_facts", "hi")
    page.click("text=Add question")
    page.keyboard.type("Closed?")
    page.fill("#id_golden_questions-1-expected_facts", "bye")
    page.click("text=Save and run")
    expect(page.locator(".golden-results tbody tr")).to_have_count(2)
    expect(page.locator(".golden-results tbody tr").first).to_contain_text("passed")
    expect(page.locator(".golden-results tbody tr").last).to_contain_text("does not contain “bye”")

    page.goto(f"{server.url}/admin/chatbots/chatbot/1/change/")
    page.select_option("#id_status", "draft")
    page.click("button[name=_continue]")
    page.wait_for_selector("text=was changed successfully")
    page.select_option("#id_status", "published")
    page.click("button[name=_continue]")
    page.wait_for_selector("text=Some golden questions failed.")
    (bot,) = json.loads(server.manage("export_chatbots"))
    assert bot["status"] == "draft"
    found = axe.run(page, context=".golden-results")
    assert found.violations_count == 0, found.generate_report()
    page.click("text=Publish anyway")
    page.wait_for_selector("text=Published: Shop.")
    (bot,) = json.loads(server.manage("export_chatbots"))
    assert bot["status"] == "published"


def test_an_evaluation_is_followed_and_cancelled(server, sign_in, upstream):
    answer = upstream.pages["/v1/chat/completions"]
    server.python(GOLDEN_QUESTION)
    page = sign_in("owner", "/admin/chatbots/chatbot/1/golden-questions/")
    page.fill("#id_judge", "openai/gpt-5")
    page.click("text=Save and evaluate")
    expect(page.locator(".verdicts").first).to_contain_text("Correct: passed")
    found = axe.run(page, context="#content")
    assert found.violations_count == 0, found.generate_report()
    upstream.pages["/v1/chat/completions"] = stalling(b"")
    page.click("text=Save and evaluate")
    page.click("text=Cancel the run")  # in the part that the script replaces every second
    page.wait_for_selector("text=The run is cancelled.")
    expect(page.locator("#golden-runs")).to_contain_text("Cancelled.")
    upstream.pages["/v1/chat/completions"] = answer
