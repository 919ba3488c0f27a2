"""Scripts of host pages, older browsers, right-to-left pages, and answers that were cut."""

import pytest

from tests.support.providers.answers import CHAT_END, chat_chunk
from tests.support.upstream import streaming
from tests.support.widget.browser import expect, in_browser
from tests.support.widget.host_pages import ask, the_chat
from tests.support.widget.pages import COMPLETIONS

pytestmark = in_browser


def test_properties_of_every_object_are_no_settings(visit, host):
    """A library with a prototype pollution must not load a module of the attacker's."""
    polluted = f"""<script>
        const evil = "{host.url}/evil.js";
        Object.assign(Object.prototype, {{
            configUrl: "{host.url}/evil", wpSite: "{host.url}", site: "{host.url}", bot: 666, botId: 666,
            config: {{ assetUrls: {{ mainJs: evil }} }}, PufferConfig: {{ site: "{host.url}" }},
            method: "DELETE", headers: {{ evil }},
        }});
    </script>"""
    page = visit("inline", head=polluted)
    the_chat(page)
    assert [url for url in visit.requested if "evil" in url] == []


PROTOTYPE_JS = """<script>
    Array.prototype.toJSON = function () { return "[" + this.map((one) => JSON.stringify(one)).join(", ") + "]" };
    String.prototype.toJSON = function () { return '"' + this + '"' };
    Array.from = (value) => [].slice.call(value);
    Array.prototype.reduce = function () { return this.length > 1 ? this : this[0] };
    Array.prototype.entries = function () { return this };
    HTMLElement.prototype.remove = function () { this.parentNode.removeChild(this); return this };
    for (const name of ["show", "hide", "update", "replace", "insert"]) HTMLElement.prototype[name] ??= () => 0;
    Object.prototype.extend = function () {};
</script>"""


@pytest.mark.parametrize("name", ["inline", "popup"])
def test_the_chat_works_next_to_libraries_that_change_the_language(visit, name):
    page = visit(name, head=PROTOTYPE_JS)
    the_chat(page)
    ask(page, "Do you sell shoes?")
    expect(page.locator(".message.bot strong")).to_have_text("do")


def test_an_element_named_puffer_is_not_the_api(visit):
    page = visit("popup", body='<a id="Puffer" name="PufferConfig">Puffer fish</a>')
    the_chat(page)


# As Bootstrap and jQuery UI do while a dialog is open.
GREEDY_MODAL = """<div id="modal"><input></div><script>
    document.addEventListener("focusin", ({ target }) => {
        if (!modal.contains(target) && target !== document) modal.firstElementChild.focus();
    });
</script>"""


def test_visitors_can_type_while_a_modal_of_the_host_keeps_the_focus(visit):
    page = visit("popup", body=GREEDY_MODAL)
    page.click(".launcher")
    page.locator("textarea").click()
    page.keyboard.type("Hello?")
    assert page.locator("textarea").input_value() == "Hello?"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize(("language", "direction"), [("he", "rtl"), ("fa-IR", "rtl"), ("ar", "rtl"), ("en", "ltr")])
def test_the_chat_follows_the_direction_of_the_pages_language(visit, site, language, direction):
    page = visit()
    visit.serve(f'<script>document.documentElement.lang = "{language}"</script>{site.snippet("plain")}')
    page.reload()
    the_chat(page)
    assert page.locator(".root").evaluate("(root) => getComputedStyle(root).direction") == direction
    send, field = (page.locator(part).bounding_box()["x"] for part in (".send", "textarea"))
    assert (send < field) == (direction == "rtl")


@pytest.mark.parametrize(("reason", "is_marked"), [("length", True), ("content_filter", True), ("stop", False)])
def test_an_answer_that_was_cut_is_marked(visit, model, reason, is_marked):
    end = chat_chunk({}, finish_reason=reason)
    model.pages[COMPLETIONS] = streaming(
        [chat_chunk({"content": "We sell shoes and"}), end, CHAT_END[-1]], 0, "end", {}
    )
    page = visit("inline")
    ask(page, "What do you sell?")
    expect(page.locator(".content", has_text="This answer is incomplete.")).to_have_count(int(is_marked))
