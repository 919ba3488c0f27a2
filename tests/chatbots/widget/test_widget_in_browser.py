"""The widget in a real browser, on pages of another origin than the server's and without any third party."""

import pytest
import requests

from tests.support.upstream import answering
from tests.support.widget.browser import expect, in_browser
from tests.support.widget.chats import ask, ask_and_wait, focused_label, open_popup
from tests.support.widget.pages import COMPLETIONS, says

pytestmark = in_browser


# Inline and popup


def test_an_inline_chat_answers_on_a_page_of_another_origin(visit):
    page = visit("inline")
    expect(page.locator("puffer-chat.aipkit_chatbot.aipkit_chat_container")).to_be_visible()
    expect(page.get_by_text("Hello there!")).to_be_visible()
    answer = ask_and_wait(page)
    assert answer.locator("strong").inner_text() == "do"
    expect(page.get_by_text("Hello there!")).to_have_count(0)


def test_the_popup_dialog_takes_and_returns_the_focus(visit):
    page = visit("popup", container=False)
    expect(page.get_by_role("dialog")).to_have_count(0)
    open_popup(page)
    assert focused_label(page) == "Type your message..."
    ask_and_wait(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert focused_label(page) == "Open the chat"


def test_the_focus_returns_to_the_element_that_opened_the_chat(visit):
    page = visit("popup", body='<button onclick="Puffer.open()">Ask us</button>')
    expect(page.locator(".launcher")).to_be_visible()
    for opening, place in [
        (lambda: page.click("text=Ask us"), "Ask us"),
        (lambda: page.evaluate("document.activeElement.blur(); Puffer.open()"), "Open the chat"),
    ]:
        opening()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert focused_label(page) == place


def test_the_popup_is_visible_even_if_its_snippet_is_in_a_hidden_element(visit, site):
    page = visit(body=f"<footer hidden>{site.snippet('popup')}</footer>")
    ask_and_wait(open_popup(page))


def test_a_page_view_makes_one_call_and_starts_no_session(visit, site):
    page = visit("popup")
    expect(page.locator(".launcher")).to_be_visible()
    calls = [url for url in visit.requested if "/wp-json/" in url]
    assert len(calls) == 1
    assert "/embed-config?lang=en" in calls[0]


def test_a_starter_asks_its_question(visit, model):
    page = visit("inline")
    page.click("text=Tell me a fun fact")
    expect(page.locator(".message.bot .actions")).to_be_visible()
    assert model.sent[-1].json["messages"][-1]["content"] == "Tell me a fun fact"


def test_the_hint_is_shown_once_per_visitor_and_opens_the_chat(visit):
    page = visit("hinting")
    expect(page.locator(".launcher")).to_be_hidden()  # popup_delay: one second
    expect(page.get_by_text("Need help? Ask me!")).to_be_visible()
    page.get_by_text("Need help? Ask me!").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_text("Need help? Ask me!")).to_be_hidden()
    page.reload()
    expect(page.locator(".launcher")).to_be_visible()
    page.wait_for_timeout(300)
    expect(page.get_by_text("Need help? Ask me!")).to_be_hidden()


def test_a_dismissed_hint_stays_hidden(visit):
    page = visit("popup")
    page.get_by_label("Dismiss").click()
    open_popup(page)
    page.get_by_label("Close the chat").first.click()
    expect(page.get_by_text("Need help? Ask me!")).to_be_hidden()


def test_a_browser_gets_the_files_with_brotli(visit, site):
    page = visit()
    visit.serve(site.snippet("inline"))
    with (
        page.expect_response("**/embed.js") as loader,
        page.expect_response("**/widget.js") as script,
        page.expect_response("**/widget.css") as styles,
    ):
        page.reload()
    for response in (loader.value, script.value, styles.value):
        assert response.header_value("content-encoding") == "br"
        assert response.text() == requests.get(response.url, headers={"Accept-Encoding": "identity"}, timeout=10).text
    expect(page.locator(".panel")).to_be_visible()


def test_two_bots_on_a_page(visit, site, model):
    page = visit("inline", "popup")
    expect(page.locator("puffer-chat")).to_have_count(2)
    inline, popup = page.locator("puffer-chat").nth(0), page.locator("puffer-chat").nth(1)
    model.pages[COMPLETIONS] = says("From the inline bot.")
    inline.locator("textarea").fill("One?")
    inline.locator("textarea").press("Enter")
    expect(inline.get_by_text("From the inline bot.").first).to_be_visible()
    popup.locator(".launcher").click()
    expect(popup.get_by_text("Hello there!")).to_be_visible()  # the popup has its own, empty conversation
    assert len([url for url in visit.requested if "/widget.js" in url]) == 1
    assert page.evaluate("[...Puffer.bots.keys()]") == [str(site.bots["inline"]), str(site.bots["popup"])]


def test_two_popups_do_not_overlap(visit):
    page = visit("popup", "arabic")
    expect(page.locator(".launcher")).to_have_count(2)
    page.wait_for_timeout(500)
    left, right = sorted((one.bounding_box() for one in page.locator(".launcher").all()), key=lambda box: box["x"])
    assert left["x"] + left["width"] < right["x"]
    assert left["y"] == right["y"]


def test_the_chat_page_fills_the_window_and_keeps_its_conversation(visit, site, browser):
    context = browser.new_context(viewport={"width": 900, "height": 700})
    visit.contexts.append(context)
    page = visit.new_page(context, f"{site.url}/chat/{site.bots['page']}/")
    ask_and_wait(page)
    assert page.locator(".panel").bounding_box() == {"x": 0, "y": 0, "width": 900, "height": 700}
    page.reload()
    expect(page.locator(".message.bot strong")).to_have_text("do")


# Errors


def test_a_retry_after_an_error_keeps_the_typed_text(visit, model):
    model.pages[COMPLETIONS] = answering({"error": {"message": "overloaded"}}, 500)
    page = visit("inline")
    failed = ask(page)
    expect(failed.locator(".failure")).to_contain_text("Something went wrong.")
    page.fill("textarea", "half a thought")
    model.pages[COMPLETIONS] = says("Yes.")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".message.bot .actions")).to_be_visible()
    expect(page.locator(".message .failure")).to_have_count(0)
    expect(page.locator(".message.visitor")).to_have_count(1)
    assert page.input_value("textarea") == "half a thought"


def test_a_lost_connection_is_reported_and_can_be_retried(visit):
    page = visit("inline")
    page.route("**/stream", lambda route: route.abort())
    expect(ask(page).locator(".failure")).to_contain_text("The connection was lost.")
    page.unroute("**/stream")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".message.bot .actions")).to_be_visible()


def test_an_exhausted_quota_shows_the_owners_message_without_a_retry(visit):
    page = open_popup(visit("spent"))
    ask_and_wait(page)
    answer = ask(page, "And hats?")
    expect(answer.locator(".notice")).to_have_text("Come back tomorrow.")
    expect(answer.get_by_text("Try again")).to_have_count(0)


def test_an_offline_notice_is_shown_and_the_text_kept(visit):
    page = visit("inline")
    expect(page.locator("textarea")).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_text("You are offline.")).to_be_visible()
    page.fill("textarea", "Do you sell shoes?")
    page.press("textarea", "Enter")
    assert page.input_value("textarea") == "Do you sell shoes?"
    page.context.set_offline(False)
    expect(page.get_by_text("You are offline.")).to_be_hidden()
    page.press("textarea", "Enter")
    expect(page.locator(".message.bot .actions")).to_be_visible()


def test_chatting_requires_consent(visit):
    page = visit("consent")
    page.evaluate("Puffer.ask('Asked before consent?')")
    expect(page.get_by_text("May we keep what you write?")).to_be_visible()
    expect(page.locator("textarea")).to_be_hidden()
    assert focused_label(page) == "I agree"
    page.click("text=I agree")
    expect(page.locator(".message.bot .actions")).to_be_visible()  # the question asked before consent is sent
    page.reload()
    open_popup(page)
    expect(page.locator(".message.visitor")).to_contain_text("Asked before consent?")
    expect(page.get_by_text("I agree")).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("elsewhere", "its owner has not allowed this site."),
        ("nobody", "This chat does not exist, or is not published."),
    ],
)
@pytest.mark.parametrize("container", [True, False])
def test_a_refused_widget_shows_a_message_and_logs_the_reason(visit, site, name, words, container):
    site.bots["nobody"] = 4711
    console = []
    page = visit(body="<script>addEventListener('puffer-error', (e) => reported = e.detail)</script>")
    page.on("console", lambda message: console.append(message.text))
    visit.serve(
        "<script>addEventListener('puffer-error', (e) => reported = e.detail)</script>" + site.snippet(name, container)
    )
    page.reload()
    expect(page.get_by_role("status")).to_contain_text(words)
    assert any(line.startswith(f"Puffer: chatbot {site.bots[name]} is not shown: ") for line in console)
    assert page.evaluate("reported.botId") == site.bots[name]


def test_an_unreachable_server_shows_a_message(visit, site):
    page = visit("inline")
    page.route("**/embed-config*", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("status")).to_have_text("This chat cannot be reached at the moment.")
