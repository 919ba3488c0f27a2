"""Host pages that do odd things, and accessibility."""

import hashlib
import hmac
import random
import time
from typing import Any

import pytest

from tests.support.upstream import answering
from tests.support.widget.browser import axe, expect, in_browser
from tests.support.widget.chats import ask, ask_and_wait, focused_label, open_popup
from tests.support.widget.pages import COMPLETIONS, says

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


def settled_box(page: Any, selector: str) -> dict[str, float]:
    """Return the element's bounding box after its animation has ended."""
    page.wait_for_timeout(400)
    return page.locator(selector).first.bounding_box()


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
