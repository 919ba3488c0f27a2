"""The widget on pages that replace their content, drop the snippet's attributes, or run in an older browser."""

import threading

import pytest
import requests

from tests.support.widget.browser import expect, in_browser
from tests.support.widget.host_pages import SEEN, ask, the_chat
from tests.support.widget.pages import COMPLETIONS, says_half

pytestmark = in_browser


# Pages that replace their content


# What runs when a visitor follows a link. `html` is the body of the next page, which has the same snippet.
RUN_SCRIPTS = """
    for (const old of document.querySelectorAll("main script")) {
        const script = document.createElement("script");
        for (const { name, value } of old.attributes) script.setAttribute(name, value);
        old.replaceWith(script);
    }
"""


NEW_BODY = "const body = document.createElement('body'); body.innerHTML = html;"


PAGE_CHANGES = {
    "a new body whose scripts run (Turbo, Livewire)": f"{NEW_BODY} document.body.replaceWith(body); {RUN_SCRIPTS}",
    "a new body whose scripts do not run (Astro, Swup)": f"{NEW_BODY} document.body.replaceWith(body);",
    "a new content of the body (htmx)": "document.body.innerHTML = html;",
    "a copy of the page from a cache (the back button of Turbo and htmx)": (
        "const body = document.body.cloneNode(true); document.body.replaceWith(body);"
    ),
    "a new document element": (
        f"const root = document.documentElement.cloneNode(false); {NEW_BODY} root.append(body);"
        "document.documentElement.replaceWith(root);"
    ),
    "only what the server did not render is removed (React, morphing)": (
        "document.querySelectorAll('puffer-chat').forEach((chat) => chat.remove());"
    ),
    "an element is moved (React's portals)": (
        "const box = document.body.appendChild(document.createElement('aside'));"
        "box.append(document.querySelector('puffer-chat').parentElement);"
    ),
}


@pytest.mark.parametrize("name", ["inline", "popup"])
@pytest.mark.parametrize("change", PAGE_CHANGES)
def test_the_chat_stays_when_the_page_replaces_its_content(visit, site, name, change):
    page = visit(name, container=name == "inline")
    the_chat(page)
    ask(page, "Before?")
    page.locator("textarea").fill("half a thought")
    html = f"<main><h1>Next</h1>{site.snippet(name, container=name == 'inline')}</main>"
    for _ in range(2):
        page.evaluate(f"(html) => {{ {PAGE_CHANGES[change]} }}", html)
        the_chat(page)
    expect(page.locator(".message.visitor")).to_contain_text("Before?")
    expect(page.locator(".message.bot").first).to_be_visible()  # an open popup is still open
    assert page.locator("textarea").input_value() == "half a thought"
    ask(page, "And after?")
    if name == "popup":  # a copy of the chat on a restored page has not taken a corner
        assert page.locator(".corner").evaluate("(corner) => corner.style.getPropertyValue('--popups')") == "1"
    if name == "inline":
        assert page.locator("[id^=aipkit-chatbot-container]").count() == 1


def test_an_answer_goes_on_while_the_page_changes(visit, model):
    finish_stream = threading.Event()
    model.pages[COMPLETIONS] = says_half(finish_stream)
    page = visit("popup", container=False)
    page.evaluate("Puffer.ask('Do you?')")
    expect(page.locator(".message.bot .bubble")).to_have_text("Yes, **we")
    page.evaluate("document.body.replaceWith(document.createElement('body'))")
    finish_stream.set()
    expect(page.locator(".message.bot strong")).to_have_text("we do")


@pytest.mark.parametrize("name", ["inline", "popup"])
def test_visitors_type_on_while_the_page_changes(visit, site, name):
    page = visit(name)
    the_chat(page)
    page.evaluate("Puffer.open()")
    page.locator("textarea").click()
    page.keyboard.type("one ")
    page.evaluate("(html) => { document.body.innerHTML = html }", site.snippet(name))
    page.keyboard.type("two")
    assert page.locator("textarea").input_value() == "one two"
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<input>')")
    page.click("body > input")
    page.evaluate("(html) => { document.body.innerHTML = html }", site.snippet(name))
    page.keyboard.type("nowhere")
    assert page.locator("textarea").input_value() == "one two"


def test_a_modal_chat_is_modal_again_after_a_page_change(visit):
    page = visit("popup", container=False, viewport={"width": 390, "height": 844}, has_touch=True)
    the_chat(page)
    page.evaluate("Puffer.open()")
    expect(page.locator("dialog:modal")).to_be_visible()
    page.evaluate("document.body.replaceWith(document.createElement('body'))")
    expect(page.locator("dialog:modal")).to_be_visible()


def test_an_inline_chat_is_shown_on_pages_with_its_container_only(visit, site):
    page = visit("inline")
    the_chat(page)
    ask(page, "Before?")
    page.evaluate("document.querySelector('main').innerHTML = '<p>A page without the chat</p>'")
    page.wait_for_timeout(2500)
    expect(page.locator("puffer-chat")).to_have_count(0)
    container = f"<section><div id='aipkit-chatbot-container-{site.bots['inline']}'></div></section>"
    page.evaluate("(html) => { document.querySelector('main').innerHTML = html }", container)
    the_chat(page)
    expect(page.locator("section puffer-chat .message.visitor")).to_contain_text("Before?")


@pytest.mark.parametrize("delay", [400, 4000])
@pytest.mark.parametrize("name", ["inline", "popup"])
def test_a_chat_goes_into_a_container_that_comes_late(visit, site, name, delay):
    id = f"aipkit-chatbot-container-{site.bots[name]}"
    late = f"""<section></section><footer>Footer</footer><script>
        setTimeout(() => (document.querySelector("section").innerHTML = "<div id='{id}'></div>"), {delay});
    </script>"""
    page = visit(name, container=False, body=late)
    expect(page.locator("section puffer-chat").locator(SEEN).first).to_be_visible()
    expect(page.locator(f"#{id}")).to_have_count(1)


def test_of_two_containers_the_visible_one_is_used(visit, site):
    container = f"<div id='aipkit-chatbot-container-{site.bots['inline']}'></div>"
    page = visit("inline", container=False, head="", body=f"<nav hidden>{container}</nav><aside>{container}</aside>")
    expect(page.locator("aside puffer-chat .panel")).to_be_visible()


def test_a_page_that_keeps_removing_the_chat_stays_responsive(visit):
    fight = """<script>
        removed = 0;
        const remove = (chat) => (removed++, chat.remove());
        new MutationObserver(() => document.querySelectorAll("puffer-chat").forEach(remove))
            .observe(document, { childList: true, subtree: true });
    </script>"""
    page = visit("popup", container=False, head=fight)
    page.wait_for_function("removed >= 5")
    page.wait_for_timeout(1500)
    assert page.evaluate("removed") <= 40


def test_destroy_also_ends_the_returns(visit):
    page = visit("popup", container=False)
    the_chat(page)
    page.evaluate("Puffer.destroy()")
    expect(page.locator("puffer-chat")).to_have_count(0)
    page.evaluate("document.body.innerHTML = '<p>Next</p>'")
    page.wait_for_timeout(300)
    expect(page.locator("puffer-chat")).to_have_count(0)


def test_the_next_run_of_the_snippet_tries_again_after_a_failure(visit, site):
    page = visit()
    page.route("**/embed-config*", lambda route: route.abort())
    visit.serve(site.snippet("inline"))
    page.reload()
    expect(page.get_by_role("status")).to_have_text("This chat cannot be reached at the moment.")
    page.unroute("**/embed-config*")
    page.evaluate(f"() => {{ {RUN_SCRIPTS} }}")
    the_chat(page)
    expect(page.get_by_text("This chat cannot be reached at the moment.")).to_have_count(0)


# Pages that change the snippet


CONTAINER = '<div id="aipkit-chatbot-container-{bot}"></div>'


STRIPPED = """<script>
    const script = document.createElement("script");
    script.src = "{address}";
    document.head.append(script);
</script>"""


# `{site}` is puffer's address, `{bot}` the chatbot's id, `/merged.js` a file of the host with embed.js in it.
SNIPPETS = {
    "a tag manager, the id in the address": STRIPPED.replace("{address}", "{site}/embed.js?bot={bot}"),
    "a tag manager, settings": "<script>window.PufferConfig = { bot: {bot} }</script>"
    + STRIPPED.replace("{address}", "{site}/embed.js"),
    "a tag manager that keeps the container": CONTAINER + STRIPPED.replace("{address}", "{site}/embed.js"),
    "no address of the site": '<script src="{site}/embed.js" data-bot-id="{bot}" defer></script>',
    "in the head of the page": '<script src="{site}/embed.js?bot={bot}"></script>',
    "a module": '<script type="module" src="{site}/embed.js" data-bot-id="{bot}"></script>',
    "a module, the id in the address": '<script type="module" src="{site}/embed.js?bot={bot}"></script>',
    "an import": '<script type="module">import("{site}/embed.js?bot={bot}")</script>',
    # Rocket Loader changes the type, and runs the text without a current script.
    "an optimizer that runs the text": """
        <script type="1f3a-text/javascript" src="{site}/embed.js" data-bot-id="{bot}" data-wp-site="{site}"></script>
        <script>fetch("/merged.js").then((file) => file.text()).then((text) => setTimeout(text))</script>""",
    "merged into another file": """<script>window.PufferConfig = { bot: "{bot}", site: "{site}/" }</script>
        <script src="/merged.js?ver=1" defer></script>""",
    "merged, with the container": CONTAINER
    + '<script>window.PufferConfig = { site: "{site}" }</script><script src="/merged.js?bot=77"></script>',
    "the address of the configuration": """<script>window.PufferConfig = {
        botId: {bot}, configUrl: "{site}/wp-json/aipkit/v1/chatbots/{bot}/embed-config" }</script>
        <script src="/merged.js" async></script>""",
}


@pytest.mark.parametrize("way", SNIPPETS)
def test_the_chatbot_is_found_without_the_attributes(visit, site, host, way):
    for query in ("", "?ver=1", "?bot=77"):
        text = requests.get(f"{site.url}/embed.js", timeout=10).content
        host.serves(f"/merged.js{query}", text, headers={"content-type": "text/javascript"})
    page = visit(body=SNIPPETS[way].replace("{site}", site.url).replace("{bot}", str(site.bots["popup"])))
    the_chat(page)
    assert page.evaluate("[...Puffer.bots.keys()]") == [str(site.bots["popup"])]


def test_a_module_shows_all_chatbots_of_the_page(visit, site):
    """A browser runs a module once, however many scripts name it."""
    page = visit(
        body="".join(
            f'<script type="module" src="{site.url}/embed.js" data-bot-id="{site.bots[name]}"></script>'
            for name in ("popup", "arabic")
        )
    )
    expect(page.locator(".launcher")).to_have_count(2)


def test_a_script_that_waits_for_consent_is_not_run_by_another(visit, site):
    waiting = f'<script type="text/plain" src="{site.url}/embed.js" data-bot-id="{site.bots["arabic"]}"></script>'
    page = visit(body=f'{waiting}<script type="module" src="{site.url}/embed.js?bot={site.bots["popup"]}"></script>')
    the_chat(page)
    assert page.evaluate("[...Puffer.bots.keys()]") == [str(site.bots["popup"])]


def test_a_script_without_a_chatbot_says_so(visit, site):
    console: list[str] = []
    page = visit()
    page.on("console", lambda message: console.append(message.text))
    visit.serve(f'<script src="{site.url}/embed.js" defer></script>')
    page.reload()
    page.wait_for_function("window.Puffer")
    page.wait_for_timeout(100)
    assert [line for line in console if "embed.js?bot=ID" in line]


# Older browsers: what Safari 16.4 and Firefox 115 do not know is deleted before any script runs.


NEWER = """
    const gone = (object, ...names) => names.forEach((name) => delete object[name]);
    gone(Element.prototype, "checkVisibility", "moveBefore", "setHTMLUnsafe", "getHTML",
        ...Object.getOwnPropertyNames(Element.prototype).filter((name) => name.startsWith("aria")));
    gone(HTMLElement.prototype, "popover", "showPopover", "hidePopover", "togglePopover");
    gone(AbortSignal, "timeout", "any");
    gone(Promise, "withResolvers", "try");
    gone(Array, "fromAsync");
    gone(Array.prototype, "toSorted", "toReversed", "toSpliced", "with", "findLast", "findLastIndex");
    gone(Set.prototype, "union", "intersection", "difference", "isSubsetOf", "isSupersetOf", "isDisjointFrom");
    gone(Object, "groupBy");
    gone(Map, "groupBy");
    gone(URL, "canParse", "parse");
    gone(String.prototype, "isWellFormed", "toWellFormed");
    gone(ReadableStream.prototype, Symbol.asyncIterator, "values");
    gone(globalThis, "scheduler", "trustedTypes", "requestIdleCallback", "Iterator", "navigation");
    gone(Document.prototype, "startViewTransition");
    gone(Navigator.prototype, "locks");
"""


@pytest.mark.parametrize("name", ["inline", "popup"])
def test_the_chat_works_without_the_newest_functions(visit, name):
    page = visit()
    page.add_init_script(NEWER)
    banner = "<p style='position: fixed; z-index: 99999; inset: auto 0 0; height: 90px; background: red'>Sale</p>"
    visit.serve(visit.site.snippet(name) + (banner if name == "popup" else ""))
    page.reload()
    the_chat(page)
    if name == "popup":
        page.click(".launcher")  # above the banner
    ask(page, "Do you sell shoes?")
    expect(page.locator(".message.bot strong")).to_have_text("do")
    page.get_by_label("Good answer").click()
    expect(page.get_by_label("Good answer")).to_have_attribute("aria-pressed", "true")


def test_a_browser_that_cannot_show_the_chat_says_so(visit):
    """Before Safari 16.4, no style sheet can be constructed."""
    page = visit()
    page.add_init_script("delete window.CSSStyleSheet")
    visit.serve(visit.site.snippet("inline"))
    page.reload()
    expect(page.get_by_role("status")).to_have_text("This chat could not be loaded.")


@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(21, 24, 30)")])
def test_colors_follow_the_visitors_scheme(visit, scheme, background):
    page = visit("plain", color_scheme=scheme)
    the_chat(page)
    assert page.locator(".panel").evaluate("(panel) => getComputedStyle(panel).backgroundColor") == background
