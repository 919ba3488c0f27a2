"""Answers in the widget, and writing to it."""

import json
import threading
from pathlib import Path
from typing import Any

import requests

from tests.support.upstream import Upstream, streaming
from tests.support.widget.browser import expect, in_browser
from tests.support.widget.chats import ask, ask_and_wait, open_popup
from tests.support.widget.pages import COMPLETIONS, Site, Visits, says, says_half

pytestmark = in_browser


def test_text_is_shown_while_the_answer_is_streaming(visit, model):
    finish_stream = threading.Event()
    model.pages[COMPLETIONS] = says_half(finish_stream)
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


def test_marks_open_the_sources_that_are_cited(visit, model):
    model.pages[COMPLETIONS] = says("Within 45 days [1]. **Rules [3]** apply [8]. `a[1]`")
    answer = ask_and_wait(visit("learned"), "May shoes be returned?")
    expect(answer.locator(".content")).to_contain_text("Within 45 days1 (opens")
    expect(answer.locator("code")).to_have_text("a[1]")
    sources = answer.locator(".sources")
    expect(sources.locator("summary")).to_have_text("Sources (2)")
    expect(sources.locator("li").first).to_be_hidden()
    titles = {mark.text_content(): mark.get_attribute("aria-label") for mark in answer.locator(".mark > *").all()}
    assert list(titles) == ["1", "3"] or [key[0] for key in titles] == ["1", "3"]
    assert all(label.startswith(f"Sources {number[0]}: ") for number, label in titles.items())
    link = answer.locator(".mark a").first
    assert link.get_attribute("href").startswith("https://shop.example/")
    assert {"noopener", "noreferrer", "nofollow"} <= set(link.get_attribute("rel").split())
    answer.locator(".mark button").first.click()  # a file has no address
    expect(sources.locator("li").first).to_be_visible()
    expect(sources.locator("li")).to_have_count(2)


def test_without_marks_the_pages_that_were_found_are_listed_as_related(visit):
    page = visit("learned")
    sources = ask_and_wait(page, "May shoes be returned?").locator(".sources")
    expect(sources.locator("summary")).to_have_text("Related pages (3)")
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
    with page.expect_response("**/feedback"):
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
        navigator.locks.request = async () => get();
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
