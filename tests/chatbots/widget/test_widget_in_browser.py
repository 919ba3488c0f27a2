"""The widget in a real browser, on pages of another origin than the server's and without any third party."""

import hashlib
import hmac
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.providers.answers import CHAT_END, chat_chunk
from tests.support.upstream import Upstream, answering, streaming
from tests.support.widget.browser import axe, expect, in_browser
from tests.support.widget.pages import COMPLETIONS, Site, Visits, says

pytestmark = in_browser

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
LONG = """## Returns

Shoes may go back within **30 days**, see [our page](https://shop.example/returns):

1. Print the label
2. Pack the shoes with the `order number`

```
def refund(order): return sum(item.price for item in order.items if item.returned_within(days=30))
```

| Country | Days | Costs | Carrier |
| --- | --- | --- | --- |
| Germany | 30 | free | DHL |
"""


def open_popup(page: Any) -> Any:
    page.click(".launcher")
    expect(page.get_by_role("dialog")).to_be_visible()
    return page


def ask(page: Any, question: str = "Do you sell shoes?") -> Any:
    """Ask a question, and return the bot's message, which may still be streaming."""
    count = page.locator(".message.bot").count()
    page.fill("textarea", question)
    page.press("textarea", "Enter")
    answer = page.locator(".message.bot").nth(count)
    expect(answer).to_be_visible()
    return answer


def ask_and_wait(page: Any, question: str = "Do you sell shoes?") -> Any:
    """Ask a question, and return the bot's message once it is complete."""
    answer = ask(page, question)
    expect(answer.locator(".actions")).to_be_visible()
    return answer


def settled_box(page: Any, selector: str) -> dict[str, float]:
    """Return the element's bounding box after its animation has ended."""
    page.wait_for_timeout(400)
    return page.locator(selector).first.bounding_box()


def focused_label(page: Any) -> str:
    """Return the label or text of the focused element, also within shadow roots."""
    return page.evaluate("""() => {
        let at = document.activeElement;
        while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
        return at.getAttribute("aria-label") ?? at.textContent;
    }""")


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


# Answers


def test_text_is_shown_while_the_answer_is_streaming(visit, model):
    finish_stream = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield chat_chunk({"content": "Yes, **we"})
        finish_stream.wait(20)
        yield chat_chunk({"content": " do**."})
        yield from CHAT_END

    model.pages[COMPLETIONS] = streaming(pieces(), 0, "end", {})
    page = visit("inline")
    answer = ask(page)
    expect(answer.locator(".bubble")).to_have_text("Yes, **we")
    assert page.locator(".log > .visually-hidden").inner_text() == ""  # screen readers announce complete answers only
    expect(page.locator("[role=log][aria-live=polite] [aria-live=off] .bubble")).to_have_count(2)
    finish_stream.set()
    expect(answer.locator("strong")).to_have_text("we do")
    expect(page.locator(".log > .visually-hidden")).to_have_text("Yes, we do.")


def test_stop_keeps_the_partial_answer_and_closes_the_providers_connection(visit, model):
    model.pages[COMPLETIONS] = says("We sell shoes and", then="silent")
    page = visit("inline")
    answer = ask(page)
    expect(answer).to_contain_text("We sell shoes and")
    page.get_by_label("Stop the answer").click()
    assert model.client_hung_up.wait(2)
    expect(answer).to_contain_text("Stopped")
    expect(answer).to_contain_text("We sell shoes and")
    model.pages[COMPLETIONS] = says("Hats too.")
    expect(ask_and_wait(page, "And hats?")).to_contain_text("Hats too.")


def test_leaving_the_page_closes_the_providers_connection(visit, model, host):
    model.pages[COMPLETIONS] = says("We sell", then="silent")
    page = visit("inline")
    expect(ask(page)).to_contain_text("We sell")
    page.goto("about:blank")
    assert model.client_hung_up.wait(2)


def test_entering_the_back_forward_cache_closes_the_providers_connection(visit, model):
    model.pages[COMPLETIONS] = says("We sell", then="silent")
    page = visit("inline")
    answer = ask(page)
    expect(answer).to_contain_text("We sell")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert model.client_hung_up.wait(2)
    expect(answer).to_contain_text("Stopped")


def test_a_reload_keeps_the_conversation(visit, model):
    page = open_popup(visit("popup"))
    ask_and_wait(page)
    page.reload()
    open_popup(page)
    expect(page.locator(".message.visitor")).to_have_text("YouDo you sell shoes?")
    expect(page.locator(".message.bot strong")).to_have_text("do")
    ask_and_wait(page, "Really?")
    prompt = [message["content"] for message in model.sent[-1].json["messages"]]
    assert prompt[-3:] == ["Do you sell shoes?", "Yes, we **do** sell shoes. ".strip(), "Really?"]


def test_many_sources_are_collapsed_under_the_answer(visit):
    page = visit("learned")
    sources = ask_and_wait(page, "May shoes be returned?").locator(".sources")
    expect(sources.locator("summary")).to_have_text("Sources (3)")
    expect(sources.locator("li").first).to_be_hidden()
    sources.locator("summary").click()
    link = sources.get_by_role("link", name="Returns")
    assert link.get_attribute("href") == "https://shop.example/returns"
    assert {"noopener", "noreferrer", "nofollow"} <= set(link.get_attribute("rel").split())
    assert sources.get_by_role("link").count() == 1  # a file has no URL
    expect(sources).to_contain_text("rules.pdf")


def test_an_answer_can_be_copied_and_rated(visit, site):
    page = visit("inline", permissions=["clipboard-read", "clipboard-write"])
    answer = ask_and_wait(page)
    answer.get_by_label("Copy").click()
    expect(answer.get_by_label("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").strip() == "Yes, we **do** sell shoes."

    answer.get_by_label("Good answer").click()
    expect(page.locator(".log > .visually-hidden")).to_have_text("Thank you!")
    answer.get_by_label("Bad answer").click()
    expect(answer.get_by_label("Good answer")).to_have_attribute("aria-pressed", "false")
    page.reload()
    expect(page.get_by_label("Bad answer")).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Bad answer").click()  # withdraws the vote
    expect(page.get_by_label("Bad answer")).to_have_attribute("aria-pressed", "false")


def test_the_log_scrolls_with_the_answer_unless_the_visitor_scrolled_up(visit, model):
    model.pages[COMPLETIONS] = says("many words " * 300)
    page = visit("inline")
    ask_and_wait(page)
    from_end = "(log) => log.scrollHeight - log.scrollTop - log.clientHeight"
    assert page.locator(".log").evaluate(from_end) < 2
    model.pages[COMPLETIONS] = says("many words " * 300, pause=0.005)
    ask(page, "More?")
    page.locator(".log").evaluate("(log) => { log.scrollTop = 0 }")
    page.wait_for_timeout(500)
    assert page.locator(".log").evaluate("(log) => log.scrollTop") == 0


def test_unsafe_html_from_the_server_is_sanitized(visit, site, host):
    """Defense in depth: the server sanitizes answers first."""
    html = (
        '<p onclick="x()" style="color:red" class="launcher">fine<img src="https://evil.example/x" onerror="x()">'
        '<svg onload="x()"></svg><iframe src="https://evil.example"></iframe><style>*{display:none}</style>'
        '<a href="javascript:x()">bad</a><a href=" java&#10;script:x()">bad</a><a href="https://ok.example">good</a>'
        '<form action="https://evil.example"><button>press</button></form><puffer-chat page></puffer-chat></p>'
    )
    played = visit_with_stream(visit, site, host, [f"event: done\ndata: {json.dumps(done_event(html))}\n\n".encode()])
    bubble = ask_and_wait(played).locator(".content")
    names = bubble.evaluate("(node) => [...node.querySelectorAll('*')].map((one) => one.localName)")
    assert set(names) <= {"p", "span", "a"}
    attributes = bubble.evaluate("(node) => [...node.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())")
    assert set(attributes) <= {"href", "target", "rel", "class"}
    assert bubble.get_by_role("link").count() == 1


def test_events_can_be_split_at_any_byte(visit, site, host):
    text = "Grüße, 你好, 🙂!"
    stream = b": hello\n\n" + b"".join(
        f"event: {name}{end}data: {json.dumps(data, ensure_ascii=False)}{end}{end}".encode()
        for name, data, end in [
            ("start", {"conversation_uuid": "c", "message_id": "m", "question_id": "q"}, "\n"),
            ("delta", {"text": text}, "\r\n"),
            ("delta", {"text": " Bye."}, "\r"),
            ("error", {"code": "x", "message": "It broke.", "data": {"status": 502}}, "\n"),
        ]
    )
    page = visit_with_stream(visit, site, host, [stream[at : at + 1] for at in range(len(stream))])
    answer = ask(page)
    expect(answer.locator(".failure")).to_contain_text("It broke.")
    expect(answer.locator(".content")).to_have_text(f"{text} Bye.")


def done_event(html: str) -> dict[str, Any]:
    return {"message_id": "m", "text": "text", "html": html, "usage": None, "finish_reason": "stop"}


def visit_with_stream(visit: Visits, site: Site, host: Upstream, pieces: list[bytes]) -> Any:
    """Open a page whose chatbot API is played by the host, which streams `pieces`."""
    address = f"{site.url}/wp-json/aipkit/v1/chatbots/{site.bots['inline']}/embed-config"
    config = requests.get(address, headers={"Origin": host.url}, timeout=10).json()["config"]
    host.serves("/config?lang=en", {"config": config | {"apiUrl": f"{host.url}/played"}})
    host.serves("/played/session", {"token": "t", "expires_in": 60, "visitor_id": "v", "identified": False})
    host.pages["/played/stream"] = streaming(pieces, 0.001, "end", {})
    return visit(body=f'<script src="{site.url}/embed.js" data-bot-id="1" data-config-url="/config" defer></script>')


# Writing


def test_enter_sends_except_with_shift_or_during_a_composition(visit, model):
    page = visit("inline")
    page.fill("textarea", "")
    page.type("textarea", "one")
    page.keyboard.press("Shift+Enter")
    page.type("textarea", "two")
    # Enter ends an input method's composition. Playwright cannot drive an input method, so synthesize its events.
    page.locator("textarea").evaluate("""(field) => {
        for (const how of [{ isComposing: true }, { keyCode: 229 }])
            field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", cancelable: true, ...how }));
    }""")
    assert page.input_value("textarea") == "one\ntwo"
    page.keyboard.press("Enter")
    expect(page.locator(".message.bot .actions")).to_be_visible()
    assert page.input_value("textarea") == ""
    assert model.sent[-1].json["messages"][-1]["content"] == "one\ntwo"


def test_the_counter_appears_near_the_limit_and_no_text_is_cut_off(visit):
    page = visit("inline")
    page.fill("textarea", "x" * 6000)
    expect(page.locator(".counter")).to_be_empty()
    page.fill("textarea", "🙂" * 7990)
    expect(page.locator(".counter")).to_have_text("10 characters left")
    page.fill("textarea", "x" * 8001)
    expect(page.locator(".counter")).to_have_text("-1 characters left")
    page.keyboard.press("Enter")
    assert len(page.input_value("textarea")) == 8001
    expect(page.locator(".message")).to_have_count(0)


def test_typing_does_not_trigger_the_hosts_shortcuts(visit):
    script = '<script>pressed = []; document.addEventListener("keydown", (e) => pressed.push(e.key))</script>'
    page = visit("inline", body=script)
    page.click("textarea")
    page.keyboard.type("/?")
    assert page.evaluate("pressed") == []


def test_visitors_can_start_a_new_chat_and_return_to_earlier_ones(visit, model):
    page = visit("plain")
    ask_and_wait(page, "First question?")
    page.get_by_label("Menu").click()
    page.click("text=New chat")
    expect(page.get_by_text("Hello there!")).to_be_visible()
    ask_and_wait(page, "Second question?")
    assert "First question?" not in json.dumps(model.sent[-1].json)

    page.get_by_label("Menu").click()
    page.click("text=Earlier chats")
    chats = page.get_by_role("navigation", name="Earlier chats").locator(".chat-list button")
    expect(chats).to_have_count(2)
    page.get_by_role("button", name="First question?").click()
    expect(page.locator(".message.visitor")).to_contain_text("First question?")
    ask_and_wait(page, "Third question?")
    assert "First question?" in json.dumps(model.sent[-1].json)


def test_the_transcript_can_be_downloaded(visit):
    page = visit("plain")
    page.get_by_label("Menu").click()
    page.click("text=Download the chat")
    expect(page.get_by_text("There is nothing to download yet.")).to_be_visible()
    ask_and_wait(page)
    page.get_by_label("Menu").click()
    with page.expect_download() as download:
        page.click("text=Download the chat")
    text = Path(download.value.path()).read_text()
    assert text == "You\nDo you sell shoes?\n\nShop assistant\nYes, we **do** sell shoes.\n"
    assert download.value.suggested_filename.startswith("Shop assistant ")


def test_two_tabs_share_a_visitor_and_have_separate_conversations(visit, model):
    page = visit("plain")
    other = visit.new_page(page.context)
    for tab, question in [(page, "From the first tab?"), (other, "From the second?")]:
        tab.fill("textarea", question)
    page.press("textarea", "Enter")
    other.press("textarea", "Enter")
    for tab in (page, other):
        expect(tab.locator(".message.bot .actions")).to_be_visible()
    ask_and_wait(page, "Still the first?")
    assert "From the first tab?" in json.dumps(model.sent[-1].json)
    page.get_by_label("Menu").click()
    page.click("text=Earlier chats")
    expect(page.locator(".chat-list button")).to_have_count(2)


def test_chatting_works_without_browser_storage(visit):
    block = """<script>
        const get = () => { throw new DOMException("no", "SecurityError") };
        for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, { get });
    </script>"""
    page = visit("inline", head=block)
    ask_and_wait(page)
    ask_and_wait(page, "Really?")


def test_an_invalid_token_is_replaced_and_the_question_sent_again(visit, site):
    page = visit("inline")
    ask_and_wait(page)
    page.evaluate("""() => {
        const [key] = Object.keys(localStorage);
        const kept = JSON.parse(localStorage[key]);
        localStorage[key] = JSON.stringify({ ...kept, token: "altered" });
    }""")
    ask_and_wait(page, "Still there?")
    assert page.locator(".message .card").all_inner_texts() == []


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


# The host page


def test_the_hosts_styles_do_not_affect_the_widget(visit):
    hostile = """<style>
        html { font-size: 60px; letter-spacing: 1em; text-transform: uppercase; cursor: none }
        main * { all: unset; display: none !important; visibility: hidden !important; z-index: 2147483647 !important }
        puffer-chat { opacity: .1 !important; transform: scale(3) !important; position: absolute !important }
    </style>"""
    plain, page = (visit("popup", "inline", head=head) for head in ("", hostile))
    widths = []
    for one in (plain, page):
        open_popup(one)
        parts = [one.locator(part).first for part in (".launcher", "dialog", "h2")]
        widths.append([part.evaluate("(node) => node.offsetWidth") for part in parts])
        expect(one.locator("puffer-chat").nth(1)).to_be_visible()
    assert widths[0] == widths[1]
    opacity = page.evaluate("getComputedStyle(document.querySelector('puffer-chat')).opacity")
    assert opacity == "1"
    popup = page.locator("puffer-chat").first
    popup.locator("textarea").fill("Do you sell shoes?")
    popup.locator("textarea").press("Enter")
    expect(popup.locator(".message.bot .actions")).to_be_visible()


def test_the_widgets_styles_do_not_affect_the_host(visit):
    page = visit("inline", body='<button class="launcher">mine</button><div class="panel">mine</div>')
    expect(page.locator("puffer-chat .panel")).to_be_visible()
    assert page.evaluate("document.styleSheets.length + document.adoptedStyleSheets.length") == 0


def test_the_widget_works_under_a_strict_content_security_policy(visit, site):
    policy = (
        f"default-src 'none'; script-src {site.url}; connect-src {site.url}; img-src {site.url}; "
        "require-trusted-types-for 'script'; trusted-types puffer"
    )
    console = []
    page = visit(headers={"content-security-policy": policy})
    page.on("console", lambda message: console.append(message.text))
    visit.serve(site.snippet("popup"), headers={"content-security-policy": policy})
    page.reload()
    open_popup(page)
    expect(ask_and_wait(page).locator("strong")).to_have_text("do")
    assert page.locator(".launcher").evaluate("(node) => getComputedStyle(node).borderRadius") == "50%"
    assert [line for line in console if "Content Security Policy" in line or "TrustedHTML" in line] == []


def test_answers_are_plain_text_if_the_trusted_types_policy_is_forbidden(visit, site):
    policy = "require-trusted-types-for 'script'; trusted-types 'none'"
    page = visit("inline", headers={"content-security-policy": policy})
    expect(ask_and_wait(page).locator(".content")).to_have_text("Yes, we **do** sell shoes.")


def test_the_javascript_api(visit, site):
    calls = """<script type="module">
        window.seen = [];
        for (const name of ["open", "close", "message", "reply", "error", "feedback"])
            Puffer.on(name, (detail) => seen.push([name, detail]));
        window.off = Puffer.on("open", () => seen.push(["open again", {}]));
        Puffer.ask("Asked before the chat was there?");
    </script>"""
    page = visit("popup", body=calls)
    expect(page.locator(".message.bot .actions")).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Good answer").click()
    page.wait_for_function("seen.some(([name]) => name === 'feedback')")
    page.evaluate("Puffer.close()")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.evaluate("off()")
    page.evaluate(f"Puffer.open({site.bots['popup']})")
    expect(page.get_by_role("dialog")).to_be_visible()
    seen = page.evaluate("seen")
    assert [name for name, _ in seen] == ["open", "open again", "message", "reply", "feedback", "close", "open"]
    details = dict(seen)
    assert {detail["botId"] for name, detail in seen if name != "open again"} == {site.bots["popup"]}
    assert details["message"]["text"] == "Asked before the chat was there?"
    assert details["reply"]["text"].strip() == "Yes, we **do** sell shoes."
    assert details["feedback"]["feedback"] == "up"

    page.evaluate("Puffer.destroy()")
    expect(page.locator("puffer-chat")).to_have_count(0)
    assert page.evaluate("Puffer.open()") is None
    ours = page.evaluate("Object.getOwnPropertyNames(window).filter((name) => /puffer|aipkit/i.test(name))")
    assert ours == ["Puffer"]


def test_a_user_of_the_host_is_identified_until_they_sign_out(visit, site):
    bot = site.bots["plain"]
    secret = site.server.python(
        f"from chatbots.models import Chatbot; print(Chatbot.objects.get(pk={bot}).identity_secret)"
    ).strip()

    def identity(nonce: str) -> dict[str, Any]:
        signed = {"user_id": "u-1", "name": "Ada", "email": "", "timestamp": int(time.time()), "nonce": nonce}
        lines = "\n".join(str(signed[key]) for key in ("user_id", "name", "email", "timestamp", "nonce"))
        return signed | {"hash": hmac.new(secret.encode(), lines.encode(), hashlib.sha256).hexdigest()}

    page = visit("plain")
    page.evaluate("(identity) => Puffer.identify(identity)", identity("nonce-0001"))
    ask_and_wait(page)
    latest = "from logs.models import Conversation; print(Conversation.objects.latest('pk').external_name)"
    assert site.server.python(latest).strip() == "Ada"

    page.evaluate("Puffer.identify(null)")
    expect(page.get_by_text("Hello there!")).to_be_visible()
    page.evaluate("void Puffer.on('error', ({ code }) => (refused = code))")
    page.evaluate("(identity) => Puffer.identify(identity)", identity("nonce-0002") | {"user_id": "u-2"})  # forged
    ask_and_wait(page, "And now?")
    assert page.evaluate("refused") == "invalid_identity"
    assert site.server.python(latest).strip() == ""


# Accessibility


def test_everything_works_by_keyboard(visit):
    page = visit("popup")
    expect(page.locator(".launcher")).to_be_visible()
    for _ in range(6):
        page.keyboard.press("Tab")
        if focused_label(page) == "Open the chat":
            break
    page.keyboard.press("Enter")
    assert focused_label(page) == "Type your message..."
    page.keyboard.type("Do you sell shoes?")
    page.keyboard.press("Enter")
    expect(page.locator(".message.bot .actions")).to_be_visible()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        reached.add(focused_label(page))
    assert {"Good answer", "Bad answer", "New chat", "Fullscreen"} <= reached
    outlines = page.evaluate("""() => {
        const button = document.querySelector("puffer-chat").shadowRoot.querySelector(".up");
        button.focus();
        return getComputedStyle(button).outlineWidth;
    }""")
    assert outlines == "2px"
    page.keyboard.press("Escape")
    assert focused_label(page) == "Open the chat"


def test_on_a_phone_the_dialog_fills_the_screen_and_traps_the_focus(visit):
    page = visit("popup", body='<a href="/">outside</a>', **PHONE)
    page.tap(".launcher")
    assert settled_box(page, "dialog") == {"x": 0, "y": 0, "width": 390, "height": 844}
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(focused_label(page))
    assert "outside" not in reached
    ask_and_wait(page)
    assert page.locator("textarea").evaluate("(field) => parseFloat(getComputedStyle(field).fontSize)") >= 16
    page.get_by_label("Close the chat").first.tap()
    expect(page.locator(".launcher")).to_be_visible()


@pytest.mark.parametrize("name", ["popup", "inline"])
def test_fullscreen_can_be_entered_and_left(visit, name):
    page = visit(name)
    if name == "popup":
        open_popup(page)
    ask_and_wait(page)
    before = settled_box(page, ".panel")
    page.get_by_label("Fullscreen").click()
    assert settled_box(page, ".panel") == {"x": 0, "y": 0, "width": 1100, "height": 760}
    expect(page.locator(".message.bot strong")).to_be_visible()
    page.get_by_label("Exit fullscreen").click()
    assert settled_box(page, ".panel") == before


def test_right_to_left_layout(visit):
    page = open_popup(visit("arabic"))
    assert settled_box(page, ".send")["x"] < settled_box(page, "textarea")["x"]
    ask_and_wait(page, "هل تبيعون الأحذية؟")
    panel = settled_box(page, ".panel")
    assert settled_box(page, ".message.visitor")["x"] - panel["x"] < panel["width"] / 4
    assert page.locator(".root").get_attribute("lang") == "ar"
    assert page.get_by_role("dialog").get_attribute("aria-label")


def test_buttons_are_large_enough_to_tap(visit):
    page = open_popup(visit("popup"))
    ask_and_wait(page)
    settled_box(page, "dialog")
    too_small = page.evaluate("""() =>
        [...document.querySelector("puffer-chat").shadowRoot.querySelectorAll("button, summary")]
            .map((one) => [one.ariaLabel ?? one.textContent, one.getBoundingClientRect()])
            .filter(([, box]) => box.width && (box.width < 39.9 || box.height < 39.9)).map(([label]) => label)
    """)
    assert too_small == []


def test_nothing_is_cut_off_at_200_percent_zoom(visit):
    """A window of 1280 x 800 at 200 % zoom is 640 x 400 CSS pixels."""
    page = open_popup(visit("popup", viewport={"width": 640, "height": 400}, device_scale_factor=2))
    ask_and_wait(page)
    panel = settled_box(page, ".panel")
    assert panel["y"] >= 0
    assert panel["y"] + panel["height"] <= 400
    assert page.locator(".log").evaluate("(log) => log.clientHeight") > 100


def test_reduced_motion_turns_animations_off(visit):
    page = open_popup(visit("popup", reduced_motion="reduce"))
    assert page.locator("dialog").evaluate("(node) => getComputedStyle(node).animationName") == "none"


STATES = ["closed", "open", "answer", "menu", "chats", "error", "consent", "page"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violations(visit, model, site, state, scheme):
    bot = {"consent": "consent", "menu": "plain", "chats": "plain"}.get(state, "popup")
    page = visit(bot, color_scheme=scheme)
    model.pages[COMPLETIONS] = answering({"error": {}}, 500) if state == "error" else says(LONG)
    if state == "page":
        page.goto(f"{site.url}/chat/{site.bots['page']}/")
    elif bot != "plain":
        expect(page.locator(".launcher")).to_be_visible()
        if state != "closed":
            open_popup(page)
    if state in ("answer", "error", "page", "chats"):
        expect(ask(page).locator(".actions, .card")).to_be_visible()
    if state in ("menu", "chats"):
        page.get_by_label("Menu").click()
    if state == "chats":
        page.click("text=Earlier chats")
        expect(page.locator(".chat-list button")).to_be_visible()
    page.wait_for_timeout(500)  # text that is still fading in fails the contrast check
    found = axe.run(page).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found] == []


def luminance(color: tuple[float, ...]) -> float:
    """Return the relative luminance. Source: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [value / 255 for value in color]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


PAIRS = [
    ("on-fill", "fill"), ("on-fill", "fill-end"), ("on-bubble", "bubble"), ("on-bubble", "code"), ("link", "bubble"),
    ("accent", "surface"), ("text", "surface"), ("muted", "surface"), ("muted", "raised"), ("danger", "danger-surface"),
    ("danger", "surface"), ("notice", "notice-surface"),
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_theme_and_custom_color_has_enough_contrast(visit, scheme):
    page = visit("inline", color_scheme=scheme)
    expect(page.locator(".panel")).to_be_visible()
    rng = random.Random(7)
    presets = ["ocean", "lagoon", "forest", "ember", "rose", "berry", "midnight", "citrine"]
    themes: list[tuple[str, str, list[str]]] = [("custom", preset, []) for preset in presets]
    themes += [(theme, "", []) for theme in ("light", "dark", "auto", "chatgpt")]
    themes += [("custom", "", [f"#{rng.randrange(1 << 24):06x}" for _ in range(3)]) for _ in range(60)]
    themes += [("custom", "", [gray] * 3) for gray in ("#000000", "#767676", "#777777", "#808080", "#ffffff")]
    illegible = []
    for theme, preset, colors in themes:
        rendered = page.evaluate(
            """async ([theme, preset, colors, names]) => {
                const chat = document.querySelector("puffer-chat");
                const config = JSON.parse(chat.dataset.config);
                const [primaryColor, secondaryColor, accentColor] = colors;
                Object.assign(config, { theme, customThemePresetKey: preset, preview: true });
                const own = { primaryColor, secondaryColor, accentColor };
                if (colors.length) Object.assign(config.customThemeSettings, own);
                chat.dataset.config = JSON.stringify(config);
                await chat.ready;
                const probe = document.createElement("i");
                chat.shadowRoot.querySelector(".root").append(probe);
                return Object.fromEntries(names.map((name) => {
                    probe.style.color = `var(--${name})`;
                    return [name, getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number)];
                }));
            }""",
            [theme, preset, colors, sorted({name for pair in PAIRS for name in pair})],
        )
        illegible += [
            (theme, preset, colors, pair)
            for pair in PAIRS
            if contrast(*(tuple(rendered[name][:3]) for name in pair)) < 4.5
        ]
    assert illegible == []


def test_the_preview_shows_a_conversation_and_makes_no_calls(visit):
    page = visit("inline")
    expect(page.locator(".panel")).to_be_visible()
    visit.requested.clear()
    page.evaluate("""() => {
        const chat = document.querySelector("puffer-chat");
        const config = { ...JSON.parse(chat.dataset.config), preview: true, headerName: "Draft", popupEnabled: true };
        chat.dataset.config = JSON.stringify(config);
    }""")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("h2")).to_have_text("Draft")
    expect(page.locator(".message")).to_have_count(2)
    page.fill("textarea", "Hello?")
    page.press("textarea", "Enter")
    page.wait_for_timeout(300)
    assert visit.requested == set()
